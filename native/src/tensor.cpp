#include "tensor.h"

#include <cstdlib>
#include <cstring>

#include "bytes.h"

namespace tessera::native {

namespace {

// The bits of the element at `p`.
uint64_t load(const uint8_t *p, int64_t size) {
    uint64_t bits = 0;
    std::memcpy(&bits, p, static_cast<size_t>(size));
    return bits;
}

int64_t load_integer(uint64_t bits, DType dtype) {
    switch (dtype) {
        case TESSERA_I32: return static_cast<int32_t>(bits);
        case TESSERA_I16: return static_cast<int16_t>(bits);
        case TESSERA_I8: return static_cast<int8_t>(bits);
        case TESSERA_BOOL: return (bits & 0xff) != 0;
        default: return static_cast<int64_t>(bits);  // unsigned ones are zero-extended already
    }
}

void to_integers(const Tensor &from, const Tensor &to, const std::string &what) {
    const DTypeFacts &source = facts(from.dtype), &target = facts(to.dtype);
    for (int64_t i = 0; i < from.count(); ++i) {
        const int64_t value =
            load_integer(load(from.memory.get() + i * source.bytes, source.bytes), from.dtype);
        if (value < 0 && from.dtype == TESSERA_U64)
            throw Failure(TESSERA_INPUT_ERROR, text(what, " holds ", static_cast<uint64_t>(value), ", but ",
                                                    target.name, " holds at most ", target.most));
        if (value < target.least || value > target.most)
            throw Failure(TESSERA_INPUT_ERROR,
                          text(what, " holds ", value, ", but ", target.name, " holds ", target.least,
                               " to ", target.most));
        std::memcpy(to.memory.get() + i * target.bytes, &value, static_cast<size_t>(target.bytes));
    }
}

void to_floats(const Tensor &from, const Tensor &to) {
    const int64_t source = facts(from.dtype).bytes, target = facts(to.dtype).bytes;
    for (int64_t i = 0; i < from.count(); ++i) {
        const double value = decode_float(load(from.memory.get() + i * source, source), from.dtype);
        const uint64_t bits = encode_float(value, to.dtype);
        std::memcpy(to.memory.get() + i * target, &bits, static_cast<size_t>(target));
    }
}

}  // namespace

std::shared_ptr<uint8_t> allocate(int64_t bytes, const std::string &what) {
    void *memory = nullptr;
    const size_t size = bytes > 0 ? static_cast<size_t>(bytes) : 1;
    if (bytes < 0 || ::posix_memalign(&memory, kAlignment, size) != 0)
        throw Failure(TESSERA_MEMORY_ERROR, text(what, ": the system has no ", bytes, " bytes of memory"),
                      "use smaller inputs");
    return {static_cast<uint8_t *>(memory), std::free};
}

int64_t tensor_bytes(DType dtype, const std::vector<int64_t> &shape) {
    int64_t bytes = facts(dtype).bytes;
    bool empty = false;
    for (int64_t size : shape) {
        if (size < 0)
            throw Failure(TESSERA_INPUT_ERROR, text("a tensor cannot have an axis of ", size));
        empty = empty || size == 0;
    }
    for (int64_t size : shape) bytes = empty ? 0 : multiply_sizes(bytes, size);
    return bytes;
}

Tensor new_tensor(DType dtype, std::vector<int64_t> shape) {
    Tensor tensor;
    tensor.dtype = dtype;
    tensor.bytes = tensor_bytes(dtype, shape);
    tensor.shape = std::move(shape);
    tensor.memory = allocate(tensor.bytes, "a tensor");
    return tensor;
}

Tensor converted(const Tensor &tensor, DType dtype, const std::string &what) {
    if (same_layout(tensor.dtype, dtype)) {
        Tensor same = tensor;
        same.dtype = dtype;
        return same;
    }
    const DTypeFacts &source = facts(tensor.dtype), &target = facts(dtype);
    if (source.is_float && !target.is_float)
        throw Failure(TESSERA_INPUT_ERROR, text(what, " holds ", source.name,
                                                " values, which do not convert to ", target.name,
                                                " without loss"));
    const Tensor result = new_tensor(dtype, tensor.shape);
    if (target.is_float)
        to_floats(tensor, result);
    else
        to_integers(tensor, result, what);
    return result;
}

}  // namespace tessera::native
