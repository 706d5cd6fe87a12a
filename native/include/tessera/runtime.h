// The Tessera runtime for C++17: load a package, run its programs on a CPU or an NVIDIA GPU.
//
//     auto runtime = tessera::Runtime::load("model.tsd");
//     runtime->initialize();                                   // the current GPU, or else the CPU
//     tessera::Tensor y = runtime->execute("forward", {tessera::Tensor::randn({1, 512, 1024})});
//
// Header only, over the C interface of libtessera_rt: programs need no more than that library.
#ifndef TESSERA_RUNTIME_H
#define TESSERA_RUNTIME_H

#include <tessera/c_api.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tessera {

// What went wrong and what to do about it. `what()` carries both.
class Error : public std::runtime_error {
public:
    Error(tessera_status status, const std::string &message, const std::string &hint)
        : std::runtime_error(hint.empty() ? message : message + " (" + hint + ")"),
          status_(status),
          message_(message),
          hint_(hint) {}

    tessera_status status() const { return status_; }
    const std::string &message() const { return message_; }
    // Empty where there is nothing to suggest.
    const std::string &hint() const { return hint_; }

private:
    tessera_status status_;
    std::string message_, hint_;
};

namespace detail {

inline void check(tessera_status status) {
    if (status != TESSERA_OK) throw Error(status, tessera_error_message(), tessera_error_hint());
}

template <class T>
constexpr tessera_dtype dtype_of() {
    if constexpr (std::is_same_v<T, double>) return TESSERA_F64;
    else if constexpr (std::is_same_v<T, float>) return TESSERA_F32;
    else if constexpr (std::is_same_v<T, bool>) return TESSERA_BOOL;
    else if constexpr (std::is_same_v<T, uint8_t>) return TESSERA_U8;
    else if constexpr (std::is_integral_v<T> && std::is_signed_v<T>)
        return sizeof(T) == 8   ? TESSERA_I64
               : sizeof(T) == 4 ? TESSERA_I32
               : sizeof(T) == 2 ? TESSERA_I16
                                : TESSERA_I8;
    else if constexpr (std::is_integral_v<T> && std::is_unsigned_v<T> && sizeof(T) > 1)
        return sizeof(T) == 8 ? TESSERA_U64 : sizeof(T) == 4 ? TESSERA_U32 : TESSERA_U16;
    else static_assert(!sizeof(T), "no tensor holds elements of this type");
}

}  // namespace detail

using DType = tessera_dtype;
using Shape = std::vector<int64_t>;

// A tensor in host memory, in C order. Copies share the elements.
class Tensor {
public:
    // All zeros.
    static Tensor zeros(const Shape &shape, DType dtype = TESSERA_F32) {
        return create(shape, dtype, nullptr);
    }

    // A copy of `values`, of which there must be as many as the shape says.
    template <class T>
    static Tensor from(const std::vector<T> &values, const Shape &shape) {
        static_assert(!std::is_same_v<T, bool>, "std::vector<bool> has no elements in memory");
        Tensor tensor = create(shape, detail::dtype_of<T>(), nullptr);
        if (static_cast<int64_t>(values.size()) != tensor.size())
            throw Error(TESSERA_INPUT_ERROR,
                        std::to_string(values.size()) + " values for a tensor of " +
                            std::to_string(tensor.size()) + " elements", "");
        std::copy(values.begin(), values.end(), tensor.data<T>());
        return tensor;
    }

    template <class T>
    static Tensor from(const std::vector<T> &values) {
        return from(values, {static_cast<int64_t>(values.size())});
    }

    // One number, for scalar inputs.
    template <class T>
    static Tensor scalar(T value) {
        return create({}, detail::dtype_of<T>(), &value);
    }

    // A copy of the elements at `data`, in the layout of `dtype`.
    static Tensor copy(const void *data, const Shape &shape, DType dtype = TESSERA_F32) {
        return create(shape, dtype, data);
    }

    // The elements at `data`, not copied: they must outlive the tensor, its copies and calls with it.
    static Tensor view(void *data, const Shape &shape, DType dtype = TESSERA_F32) {
        tessera_tensor *made = nullptr;
        detail::check(tessera_tensor_wrap(dtype, static_cast<int64_t>(shape.size()), shape.data(), data,
                                          nullptr, nullptr, &made));
        return Tensor(made);
    }

    // Standard normal numbers, others on each call.
    static Tensor randn(const Shape &shape, DType dtype = TESSERA_F32) {
        return randn(shape, dtype, std::random_device{}());
    }

    // Standard normal numbers, the same for the same seed.
    static Tensor randn(const Shape &shape, DType dtype, uint64_t seed) {
        Tensor tensor = zeros(shape, TESSERA_F32);
        std::mt19937_64 engine(seed);
        std::normal_distribution<float> normal;
        float *values = tensor.data<float>();
        for (int64_t i = 0; i < tensor.size(); ++i) values[i] = normal(engine);
        return tensor.to(dtype);
    }

    // The same values as another dtype; throws where it cannot hold them.
    Tensor to(DType dtype) const {
        tessera_tensor *made = nullptr;
        detail::check(tessera_tensor_convert(handle(), dtype, &made));
        return Tensor(made);
    }

    Shape shape() const {
        const int64_t *sizes = tessera_tensor_shape(handle());
        return Shape(sizes, sizes + tessera_tensor_rank(handle()));
    }
    DType dtype() const { return tessera_tensor_dtype(handle()); }
    // Number of elements.
    int64_t size() const { return tessera_tensor_bytes(handle()) / tessera_dtype_size(dtype()); }
    int64_t bytes() const { return tessera_tensor_bytes(handle()); }

    // The elements; throws if they are not of type T. `raw` gives those of any dtype.
    template <class T>
    T *data() {
        return static_cast<T *>(checked(detail::dtype_of<T>()));
    }
    template <class T>
    const T *data() const {
        return static_cast<const T *>(checked(detail::dtype_of<T>()));
    }
    void *raw() { return tessera_tensor_data(handle()); }
    const void *raw() const { return tessera_tensor_data(handle()); }

    // A copy of the elements.
    template <class T>
    std::vector<T> values() const {
        return std::vector<T>(data<T>(), data<T>() + size());
    }

    const tessera_tensor *handle() const { return handle_.get(); }

private:
    friend class Runtime;

    explicit Tensor(tessera_tensor *handle) : handle_(handle, tessera_tensor_free) {}

    static Tensor create(const Shape &shape, DType dtype, const void *data) {
        tessera_tensor *made = nullptr;
        detail::check(tessera_tensor_create(dtype, static_cast<int64_t>(shape.size()), shape.data(), data,
                                            &made));
        return Tensor(made);
    }

    void *checked(DType wanted) const {
        const DType found = dtype();
        if (found != wanted && !(found == TESSERA_TF32 && wanted == TESSERA_F32))
            throw Error(TESSERA_INPUT_ERROR,
                        std::string("the tensor holds ") + tessera_dtype_name(found) + ", not " +
                            tessera_dtype_name(wanted),
                        "convert it with to(), or use raw()");
        return tessera_tensor_data(handle());
    }

    std::shared_ptr<tessera_tensor> handle_;
};

// An input or output of a program.
struct Port {
    std::string name;
    DType dtype;
    bool is_scalar;
    std::string shape;  // for people: "(batch, 64)"
    Shape sizes;        // -1 where a size depends on the inputs
};

// One result and its name.
struct Output {
    std::string name;
    Tensor tensor;
};

// A package, and once initialized its programs on a device. Any number of threads may execute at once.
class Runtime {
public:
    // The package in a file or an unpacked folder.
    static std::unique_ptr<Runtime> load(const std::string &path) {
        if (tessera_abi_version() != TESSERA_ABI_VERSION)
            throw Error(TESSERA_INTERNAL_ERROR, "libtessera_rt is of another version than its headers",
                        "build against the headers that came with the library");
        tessera_runtime *made = nullptr;
        detail::check(tessera_runtime_load(path.c_str(), &made));
        return std::unique_ptr<Runtime>(new Runtime(made));
    }

    // Load code and weights on "cpu", "cuda:0", or by default on the current GPU if there is one that
    // the package has code for, else on the CPU.
    void initialize(const std::string &device = "auto") {
        detail::check(tessera_runtime_initialize(handle_.get(), device.c_str()));
    }

    // Check every byte of the package.
    void verify() { detail::check(tessera_runtime_verify(handle_.get())); }

    // Name of the device in use; empty before `initialize`.
    std::string device() const {
        const char *name = nullptr;
        detail::check(tessera_runtime_device(handle_.get(), &name));
        return name;
    }

    // Run a program that has one output.
    Tensor execute(const std::string &program, const std::vector<Tensor> &inputs) const {
        if (output_count(program) != 1)
            throw Error(TESSERA_INPUT_ERROR,
                        "program '" + program + "' has " + std::to_string(output_count(program)) +
                            " outputs", "call execute_all");
        return run(program, inputs).front();
    }

    // Run the only program, or the one called "forward".
    Tensor execute(const std::vector<Tensor> &inputs) const { return execute(std::string(), inputs); }

    // Run a program; its outputs in order, by name.
    std::vector<Output> execute_all(const std::string &program, const std::vector<Tensor> &inputs) const {
        std::vector<Tensor> found = run(program, inputs);
        std::vector<Output> outputs;
        for (size_t i = 0; i < found.size(); ++i)
            outputs.push_back({port(tessera_runtime_output, program, i).name, std::move(found[i])});
        return outputs;
    }

    // Names of the programs.
    std::vector<std::string> programs() const {
        std::vector<std::string> names;
        for (size_t i = 0; i < tessera_runtime_program_count(handle_.get()); ++i)
            names.emplace_back(tessera_runtime_program_name(handle_.get(), i));
        return names;
    }

    std::vector<Port> inputs(const std::string &program = "") const {
        size_t count = 0;
        detail::check(tessera_runtime_input_count(handle_.get(), program.c_str(), &count));
        return ports(tessera_runtime_input, program, count);
    }

    std::vector<Port> outputs(const std::string &program = "") const {
        return ports(tessera_runtime_output, program, output_count(program));
    }

    // For the C interface.
    tessera_runtime *handle() const { return handle_.get(); }

private:
    using PortOf = tessera_status (*)(const tessera_runtime *, const char *, size_t, tessera_port *);

    explicit Runtime(tessera_runtime *handle) : handle_(handle, tessera_runtime_free) {}

    size_t output_count(const std::string &program) const {
        size_t count = 0;
        detail::check(tessera_runtime_output_count(handle_.get(), program.c_str(), &count));
        return count;
    }

    std::vector<Tensor> run(const std::string &program, const std::vector<Tensor> &inputs) const {
        std::vector<const tessera_tensor *> given;
        for (const Tensor &input : inputs) given.push_back(input.handle());
        std::vector<tessera_tensor *> made(output_count(program));
        size_t count = 0;
        detail::check(tessera_runtime_execute(handle_.get(), program.c_str(), given.data(), given.size(),
                                              made.data(), made.size(), &count));
        std::vector<Tensor> outputs;
        outputs.reserve(count);
        for (tessera_tensor *tensor : made) outputs.push_back(Tensor(tensor));
        return outputs;
    }

    Port port(PortOf of, const std::string &program, size_t index) const {
        tessera_port found{};
        detail::check(of(handle_.get(), program.c_str(), index, &found));
        return {found.name, found.dtype, found.is_scalar != 0, found.shape,
                Shape(found.sizes, found.sizes + found.rank)};
    }

    std::vector<Port> ports(PortOf of, const std::string &program, size_t count) const {
        std::vector<Port> found;
        for (size_t i = 0; i < count; ++i) found.push_back(port(of, program, i));
        return found;
    }

    std::unique_ptr<tessera_runtime, decltype(&tessera_runtime_free)> handle_;
};

}  // namespace tessera

#endif
