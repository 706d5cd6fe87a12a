// Runs every program of a package on two devices with random inputs and compares the results.
//
//     compare_devices PACKAGE DEVICE OTHER_DEVICE
//
// Exits 0 if they agree; prints a line per program and size.
#include <tessera/runtime.h>

#include <cmath>
#include <cstring>
#include <iostream>

namespace {

using tessera::Tensor;

Tensor random_input(const tessera::Port &port, int64_t size, uint64_t seed) {
    tessera::Shape shape = port.sizes;
    for (int64_t &axis : shape)
        if (axis < 0) axis = size;
    if (port.is_scalar && port.dtype >= TESSERA_I64) return Tensor::scalar<int64_t>(size);
    // Of the size of trained weights: products stay near 1.
    Tensor values = Tensor::randn(shape, TESSERA_F32, seed);
    const auto scale = static_cast<float>(shape.size() > 1 ? 1 / std::sqrt(double(shape.back())) : 1);
    for (int64_t i = 0; i < values.size(); ++i) values.data<float>()[i] *= scale;
    return values.to(port.dtype);
}

double difference(const Tensor &a, const Tensor &b) {
    if (a.shape() != b.shape() || a.dtype() != b.dtype()) return HUGE_VAL;
    const std::vector<double> x = a.to(TESSERA_F64).values<double>(), y = b.to(TESSERA_F64).values<double>();
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        const double off = std::fabs(x[i] - y[i]) / (1 + std::fabs(y[i]));
        worst = off <= worst ? worst : off;  // NaN counts
    }
    return worst;
}

double tolerance(tessera::DType dtype) {
    return dtype == TESSERA_BF16 ? 5e-2 : dtype == TESSERA_F16 ? 1e-2 : dtype == TESSERA_F64 ? 1e-9 : 1e-4;
}

bool agree(tessera::Runtime &one, tessera::Runtime &other, const std::string &program, int64_t size) {
    std::vector<Tensor> inputs;
    bool narrow = false;
    for (const tessera::Port &port : one.inputs(program)) {
        inputs.push_back(random_input(port, size, inputs.size() + 1));
        narrow = narrow || port.dtype == TESSERA_BF16 || port.dtype == TESSERA_F16;
    }
    const auto a = one.execute_all(program, inputs), b = other.execute_all(program, inputs);
    bool fine = true;
    for (size_t i = 0; i < a.size(); ++i) {
        const double limit = narrow ? tolerance(TESSERA_BF16) : tolerance(a[i].tensor.dtype());
        const double off = difference(a[i].tensor, b[i].tensor);
        std::cout << program << " " << size << " " << a[i].name << ": " << off << "\n";
        fine = fine && off <= limit;
    }
    return fine;
}

}  // namespace

int main(int count, char **arguments) {
    if (count != 4) return 2;
    try {
        auto one = tessera::Runtime::load(arguments[1]), other = tessera::Runtime::load(arguments[1]);
        one->initialize(arguments[2]);
        other->initialize(arguments[3]);
        std::cout << one->device() << " against " << other->device() << "\n";
        bool fine = true;
        for (const std::string &program : one->programs())
            for (int64_t size : {1, 7, 64, 300}) fine = agree(*one, *other, program, size) && fine;
        return fine ? 0 : 1;
    } catch (const tessera::Error &error) {
        std::cerr << error.what() << "\n";
        return 3;
    }
}
