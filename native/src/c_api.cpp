// The C interface over `Session`: handles, and exceptions that become statuses at the border.
#include <tessera/c_api.h>

#include <cstring>
#include <new>

#include "session.h"

#ifndef TESSERA_VERSION
#define TESSERA_VERSION "unknown"
#endif

using namespace tessera::native;

struct tessera_tensor {
    Tensor value;
};

// What `tessera_port` points to.
struct PortText {
    std::string shape;
    std::vector<int64_t> sizes;
};

struct tessera_runtime {
    explicit tessera_runtime(const std::string &path) : session(path) {
        for (const Program &program : session.package().programs()) {
            for (const Port &port : program.inputs) describe(port, program.symbols);
            for (const Port &port : program.outputs) describe(port, program.symbols);
        }
    }

    void describe(const Port &port, const Symbols &symbols) {
        PortText &text = ports[&port];
        text.shape = describe_shape(port.shape, symbols);
        for (const Dim &dim : port.shape) text.sizes.push_back(dim.is_number() ? dim.number() : -1);
    }

    Session session;
    std::unordered_map<const Port *, PortText> ports;
};

namespace {

struct LastError {
    std::string message, hint;
};

LastError &last_error() {
    thread_local LastError error;
    return error;
}

tessera_status report(tessera_status status, const char *message, const char *hint) noexcept {
    try {
        last_error().message = message;
        last_error().hint = hint;
    } catch (const std::bad_alloc &) {
        last_error().message.clear();  // the status alone has to say it
        last_error().hint.clear();
    }
    return status;
}

// Run `work`; whatever it throws becomes a status: no exception crosses the border.
template <class Work>
tessera_status guarded(Work work) noexcept {
    try {
        work();
        return TESSERA_OK;
    } catch (const Failure &failure) {
        return report(failure.status, failure.message.c_str(), failure.hint.c_str());
    } catch (const std::bad_alloc &) {
        return report(TESSERA_MEMORY_ERROR, "the system has no memory left", "use smaller inputs");
    } catch (const std::exception &error) {
        return report(TESSERA_INTERNAL_ERROR, error.what(), "");
    }
}

void require(bool holds, const char *what) {
    if (!holds) throw Failure(TESSERA_INPUT_ERROR, what);
}

Tensor described(tessera_dtype dtype, int64_t rank, const int64_t *shape) {
    require(is_dtype(dtype), "no such dtype");
    require(rank >= 0 && rank <= 64, "a tensor has 0 to 64 axes");
    require(rank == 0 || shape, "the shape is null");
    Tensor tensor;
    tensor.dtype = dtype;
    tensor.shape.assign(shape, shape + rank);
    tensor.bytes = tensor_bytes(dtype, tensor.shape);
    return tensor;
}

const Port &port_of(const std::vector<Port> &ports, size_t index) {
    require(index < ports.size(), "no such input or output");
    return ports[index];
}

void fill_port(const tessera_runtime *runtime, const Port &found, tessera_port *port) {
    const PortText &text = runtime->ports.at(&found);
    *port = {found.name.c_str(), found.dtype,        found.is_scalar, int64_t(found.shape.size()),
             text.shape.c_str(), text.sizes.data()};
}

}  // namespace

extern "C" {

const char *tessera_error_message(void) { return last_error().message.c_str(); }
const char *tessera_error_hint(void) { return last_error().hint.c_str(); }
const char *tessera_version(void) { return TESSERA_VERSION; }
int32_t tessera_abi_version(void) { return TESSERA_ABI_VERSION; }

tessera_status tessera_tensor_create(tessera_dtype dtype, int64_t rank, const int64_t *shape,
                                     const void *data, tessera_tensor **tensor) {
    return guarded([&] {
        require(tensor, "the place for the tensor is null");
        Tensor made = described(dtype, rank, shape);
        made.memory = allocate(made.bytes, "a tensor");
        if (data && made.bytes)
            std::memcpy(made.memory.get(), data, static_cast<size_t>(made.bytes));
        else
            std::memset(made.memory.get(), 0, static_cast<size_t>(made.bytes));
        *tensor = new tessera_tensor{std::move(made)};
    });
}

tessera_status tessera_tensor_wrap(tessera_dtype dtype, int64_t rank, const int64_t *shape, void *data,
                                   void (*release)(void *), void *context, tessera_tensor **tensor) {
    return guarded([&] {
        require(tensor, "the place for the tensor is null");
        Tensor made = described(dtype, rank, shape);
        require(data || !made.bytes, "the data is null");
        const auto element = static_cast<uintptr_t>(facts(dtype).bytes);
        require(reinterpret_cast<uintptr_t>(data) % element == 0,
                "the data is not aligned to its elements");
        auto handle = std::make_unique<tessera_tensor>();
        // The caller's memory is not ours to free: it only hears when nobody needs it any more.
        auto armed = std::make_shared<bool>(false);
        made.memory = std::shared_ptr<uint8_t>(static_cast<uint8_t *>(data),
                                               [release, context, armed](uint8_t *) {
                                                   if (*armed && release) release(context);
                                               });
        handle->value = std::move(made);
        *armed = true;
        *tensor = handle.release();
    });
}

tessera_status tessera_tensor_convert(const tessera_tensor *tensor, tessera_dtype dtype,
                                      tessera_tensor **result) {
    return guarded([&] {
        require(tensor && result, "the tensor is null");
        require(is_dtype(dtype), "no such dtype");
        *result = new tessera_tensor{converted(tensor->value, dtype, "the tensor")};
    });
}

tessera_dtype tessera_tensor_dtype(const tessera_tensor *tensor) { return tensor->value.dtype; }
int64_t tessera_tensor_rank(const tessera_tensor *tensor) {
    return static_cast<int64_t>(tensor->value.shape.size());
}
const int64_t *tessera_tensor_shape(const tessera_tensor *tensor) { return tensor->value.shape.data(); }
void *tessera_tensor_data(const tessera_tensor *tensor) { return tensor->value.memory.get(); }
int64_t tessera_tensor_bytes(const tessera_tensor *tensor) { return tensor->value.bytes; }
void tessera_tensor_free(tessera_tensor *tensor) { delete tensor; }
int64_t tessera_dtype_size(tessera_dtype dtype) { return is_dtype(dtype) ? facts(dtype).bytes : 0; }
const char *tessera_dtype_name(tessera_dtype dtype) { return is_dtype(dtype) ? facts(dtype).name : ""; }

tessera_status tessera_runtime_load(const char *path, tessera_runtime **runtime) {
    return guarded([&] {
        require(path && runtime, "the path is null");
        *runtime = new tessera_runtime(path);
    });
}

tessera_status tessera_runtime_verify(tessera_runtime *runtime) {
    return guarded([&] {
        require(runtime, "the runtime is null");
        runtime->session.package().verify();
    });
}

tessera_status tessera_runtime_initialize(tessera_runtime *runtime, const char *device) {
    return guarded([&] {
        require(runtime, "the runtime is null");
        runtime->session.initialize(device && *device ? device : "auto");
    });
}

tessera_status tessera_runtime_device(tessera_runtime *runtime, const char **device) {
    return guarded([&] {
        require(runtime && device, "the runtime is null");
        *device = runtime->session.device_name().c_str();
    });
}

tessera_status tessera_runtime_execute(tessera_runtime *runtime, const char *program,
                                       const tessera_tensor *const *inputs, size_t input_count,
                                       tessera_tensor **outputs, size_t output_capacity,
                                       size_t *output_count) {
    return guarded([&] {
        require(runtime && (inputs || !input_count) && (outputs || !output_capacity) && output_count,
                "an argument of execute is null");
        *output_count = runtime->session.package().program(program).outputs.size();
        if (*output_count > output_capacity)
            throw Failure(TESSERA_INPUT_ERROR, text("there are ", *output_count, " outputs, but room for ",
                                                    output_capacity));
        std::vector<Tensor> given;
        for (size_t i = 0; i < input_count; ++i) {
            require(inputs[i], "an input is null");
            given.push_back(inputs[i]->value);
        }
        std::vector<Tensor> results = runtime->session.execute(program, given);
        std::vector<std::unique_ptr<tessera_tensor>> handles;
        for (Tensor &result : results)
            handles.push_back(std::make_unique<tessera_tensor>(tessera_tensor{std::move(result)}));
        for (size_t i = 0; i < handles.size(); ++i) outputs[i] = handles[i].release();
    });
}

void tessera_runtime_free(tessera_runtime *runtime) { delete runtime; }

size_t tessera_runtime_program_count(const tessera_runtime *runtime) {
    return runtime->session.package().programs().size();
}

const char *tessera_runtime_program_name(const tessera_runtime *runtime, size_t index) {
    const std::vector<Program> &programs = runtime->session.package().programs();
    return index < programs.size() ? programs[index].name.c_str() : nullptr;
}

tessera_status tessera_runtime_input_count(const tessera_runtime *runtime, const char *program,
                                           size_t *count) {
    return guarded([&] {
        require(runtime && count, "the runtime is null");
        *count = runtime->session.package().program(program).inputs.size();
    });
}

tessera_status tessera_runtime_output_count(const tessera_runtime *runtime, const char *program,
                                            size_t *count) {
    return guarded([&] {
        require(runtime && count, "the runtime is null");
        *count = runtime->session.package().program(program).outputs.size();
    });
}

tessera_status tessera_runtime_input(const tessera_runtime *runtime, const char *program, size_t index,
                                     tessera_port *port) {
    return guarded([&] {
        require(runtime && port, "the runtime is null");
        fill_port(runtime, port_of(runtime->session.package().program(program).inputs, index), port);
    });
}

tessera_status tessera_runtime_output(const tessera_runtime *runtime, const char *program, size_t index,
                                      tessera_port *port) {
    return guarded([&] {
        require(runtime && port, "the runtime is null");
        fill_port(runtime, port_of(runtime->session.package().program(program).outputs, index), port);
    });
}

}  // extern "C"
