// The C++ interface, used as a program would. Exits 0 if all is as it should be.
#include <tessera/runtime.h>

#include <cmath>
#include <iostream>
#include <thread>

namespace {

int failures = 0;

void expect(bool holds, const std::string &what) {
    if (holds) return;
    std::cerr << "not so: " << what << "\n";
    ++failures;
}

template <class Work>
void expect_error(tessera_status status, const std::string &part, Work work) {
    try {
        work();
        expect(false, "an error that says " + part);
    } catch (const tessera::Error &error) {
        expect(error.status() == status, "the status of: " + std::string(error.what()));
        expect(std::string(error.what()).find(part) != std::string::npos,
               "'" + part + "' in: " + error.what());
        expect(std::string(error.what()).find(error.hint()) != std::string::npos, "the hint in what()");
    }
}

void tensors() {
    using tessera::Tensor;
    const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
    expect(x.shape() == tessera::Shape{2, 3} && x.size() == 6 && x.bytes() == 24, "shape and sizes");
    expect(x.values<float>()[5] == 6.0f, "the last value");
    expect(x.to(TESSERA_BF16).to(TESSERA_F32).values<float>() == x.values<float>(), "a way there and back");
    expect(Tensor::scalar(7).dtype() == TESSERA_I32 && Tensor::scalar(7).shape().empty(), "a scalar");
    expect(Tensor::randn({8}, TESSERA_F32, 1).values<float>() ==
               Tensor::randn({8}, TESSERA_F32, 1).values<float>(), "the same seed");
    const Tensor many = Tensor::randn({1 << 16});
    double sum = 0, squares = 0;
    for (float v : many.values<float>()) sum += v, squares += double(v) * v;
    expect(std::fabs(sum / (1 << 16)) < 0.02 && std::fabs(squares / (1 << 16) - 1) < 0.05, "normal numbers");
    float raw[2] = {1, 2};
    Tensor view = Tensor::view(raw, {2});
    view.data<float>()[1] = 9;
    expect(raw[1] == 9, "a view shares its memory");
    expect_error(TESSERA_INPUT_ERROR, "the tensor holds f32, not i32", [&] { x.data<int32_t>(); });
    expect_error(TESSERA_INPUT_ERROR, "axis of -1", [] { Tensor::zeros({-1}); });
    expect_error(TESSERA_INPUT_ERROR, "more than 64 bits", [] { Tensor::zeros({1LL << 40, 1LL << 40}); });
    expect_error(TESSERA_INPUT_ERROR, "3 values for a tensor of 2", [] { Tensor::from<float>({1, 2, 3}, {2}); });
}

void release_is_called_once(const tessera::Runtime &) {
    static int released = 0;
    float data[3] = {1, 2, 3};
    const int64_t shape[1] = {3};
    tessera_tensor *tensor = nullptr;
    const auto release = [](void *count) { ++*static_cast<int *>(count); };
    expect(tessera_tensor_wrap(TESSERA_F32, 1, shape, data, release, &released, &tensor) == TESSERA_OK, "wrap");
    expect(tessera_tensor_data(tensor) == data && released == 0, "wrapped, not copied");
    tessera_tensor_free(tensor);
    expect(released == 1, "released once");
    char bytes[16];
    expect(tessera_tensor_wrap(TESSERA_F32, 1, shape, bytes + 1, release, &released, &tensor) ==
               TESSERA_INPUT_ERROR && released == 1, "misaligned data is refused and not released");
}

}  // namespace

int main(int count, char **arguments) {
    if (count != 3) return 2;
    const std::string digits = arguments[1], outputs = arguments[2];
    tensors();
    auto runtime = tessera::Runtime::load(digits);
    release_is_called_once(*runtime);
    const std::string program = runtime->programs().at(0);
    const auto input = tessera::Tensor::randn({5, 64});
    expect_error(TESSERA_DEVICE_ERROR, "not initialized", [&] { runtime->execute(program, {input}); });
    expect(runtime->device().empty(), "no device yet");
    runtime->initialize("cpu");
    runtime->verify();
    expect(runtime->device() == "cpu", "the device's name");
    expect(runtime->inputs().at(0).shape == "(batch, 64)", "the shape: " + runtime->inputs().at(0).shape);
    expect(runtime->inputs().at(0).sizes == tessera::Shape{-1, 64}, "sizes");
    const tessera::Tensor scores = runtime->execute({input});
    expect(scores.shape() == tessera::Shape{5, 10}, "the shape of the scores");
    float sum = 0;
    for (float p : scores.values<float>()) sum += p;
    expect(std::fabs(sum - 5) < 1e-4f, "each row of a softmax sums to 1");
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i)
        threads.emplace_back([&] {
            for (int turn = 0; turn < 20; ++turn)
                if (runtime->execute({input}).values<float>() != scores.values<float>()) std::abort();
        });
    for (std::thread &thread : threads) thread.join();
    expect_error(TESSERA_INPUT_ERROR, "axis 1 is 65, expected 64",
                 [&] { runtime->execute({tessera::Tensor::zeros({1, 65})}); });
    expect_error(TESSERA_INPUT_ERROR, "takes 1 input, got 2", [&] { runtime->execute({input, input}); });
    expect_error(TESSERA_INPUT_ERROR, "has 1 axes, expected 2",
                 [&] { runtime->execute({tessera::Tensor::zeros({64})}); });
    expect_error(TESSERA_INPUT_ERROR, "no program called 'nothing'",
                 [&] { runtime->execute("nothing", {input}); });
    expect_error(TESSERA_DEVICE_ERROR, "unknown device 'tpu'", [&] { runtime->initialize("tpu"); });
    expect_error(TESSERA_PACKAGE_ERROR, "cannot read", [] { tessera::Runtime::load("/nowhere.tsd"); });
    expect(runtime->device() == "cpu", "a failed initialize changes nothing");

    auto several = tessera::Runtime::load(outputs);
    several->initialize("cpu");
    const auto found = several->execute_all(several->programs().at(0), {tessera::Tensor::randn({3, 40})});
    expect(found.size() == 2 && found[0].name != found[1].name, "two named outputs");
    expect_error(TESSERA_INPUT_ERROR, "has 2 outputs",
                 [&] { several->execute(several->programs().at(0), {tessera::Tensor::randn({3, 40})}); });
    return failures != 0;
}
