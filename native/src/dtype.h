// Element types: names, sizes, and single values in their memory layout.
#pragma once

#include <tessera/c_api.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tessera::native {

using DType = tessera_dtype;

constexpr int kDTypes = 16;

struct DTypeFacts {
    const char *name;
    int64_t bytes;
    bool is_float;
    // Range of an integer type; of u64 the half that an int64_t holds.
    int64_t least, most;
};

// `dtype` must be one of the enumeration; `is_dtype` says whether a number from outside is.
const DTypeFacts &facts(DType dtype);
bool is_dtype(int dtype);
std::optional<DType> dtype_called(std::string_view name);

// Whether elements of both lie alike in memory (f32 and tf32 do).
bool same_layout(DType a, DType b);

// One element as the bits of its memory, lowest byte first; floats are rounded to nearest even.
uint64_t encode_float(double value, DType dtype);
// The element with those bits as a double. 64-bit integers are rounded.
double decode_float(uint64_t bits, DType dtype);

}  // namespace tessera::native
