// A view of bytes that someone else owns, and checked arithmetic on sizes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "failure.h"

namespace tessera::native {

struct Bytes {
    const uint8_t *data = nullptr;
    size_t size = 0;

    // The part from `offset`, `count` bytes long; both must lie inside.
    Bytes part(size_t offset, size_t count) const { return {data + offset, count}; }
    std::string_view chars() const { return {reinterpret_cast<const char *>(data), size}; }
};

// Bytes and what keeps them alive.
struct Content {
    Bytes bytes;
    std::shared_ptr<const void> owner;
};

// a + b and a * b; a size that does not fit 64 bits is an error.
inline int64_t add_sizes(int64_t a, int64_t b) {
    int64_t out = 0;
    if (__builtin_add_overflow(a, b, &out))
        throw Failure(TESSERA_INPUT_ERROR, "a size is more than 64 bits hold", "use smaller inputs");
    return out;
}

inline int64_t multiply_sizes(int64_t a, int64_t b) {
    int64_t out = 0;
    if (__builtin_mul_overflow(a, b, &out))
        throw Failure(TESSERA_INPUT_ERROR, "a size is more than 64 bits hold", "use smaller inputs");
    return out;
}

}  // namespace tessera::native
