#include "dtype.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace tessera::native {

namespace {

template <class T>
constexpr DTypeFacts integer_facts(const char *name) {
    return {name, int64_t{sizeof(T)}, false, int64_t{std::numeric_limits<T>::min()},
            int64_t{std::numeric_limits<T>::max()}};
}

constexpr std::array<DTypeFacts, kDTypes> kFacts = {{
    {"f64", 8, true, 0, 0},
    {"f32", 4, true, 0, 0},
    {"tf32", 4, true, 0, 0},
    {"f16", 2, true, 0, 0},
    {"bf16", 2, true, 0, 0},
    {"f8e4m3", 1, true, 0, 0},
    {"f8e5m2", 1, true, 0, 0},
    integer_facts<int64_t>("i64"),
    integer_facts<int32_t>("i32"),
    integer_facts<int16_t>("i16"),
    integer_facts<int8_t>("i8"),
    integer_facts<uint8_t>("u8"),
    {"bool", 1, false, 0, 1},
    {"u64", 8, false, 0, std::numeric_limits<int64_t>::max()},
    integer_facts<uint32_t>("u32"),
    integer_facts<uint16_t>("u16"),
}};

// A binary float narrower than f32.
struct Format {
    int exponent_bits;
    int mantissa_bits;
    // f8e4m3 has no infinities: all ones is its only NaN, and what is too large becomes it.
    bool has_infinity;
};

Format format_of(DType dtype) {
    switch (dtype) {
        case TESSERA_F16: return {5, 10, true};
        case TESSERA_BF16: return {8, 7, true};
        case TESSERA_F8E4M3: return {4, 3, false};
        default: return {5, 2, true};
    }
}

template <class To, class From>
To bits_as(From from) {
    To to{};
    std::memcpy(&to, &from, sizeof to);
    return to;
}

uint64_t encode_narrow(double value, Format format) {
    const int bias = (1 << (format.exponent_bits - 1)) - 1, mantissa = format.mantissa_bits;
    const uint64_t sign = std::signbit(value) ? uint64_t{1} << (format.exponent_bits + mantissa) : 0;
    const uint64_t top = ((uint64_t{1} << format.exponent_bits) - 1) << mantissa;
    const uint64_t infinity = format.has_infinity ? top : top | ((uint64_t{1} << mantissa) - 1);
    const uint64_t nan = format.has_infinity ? top | uint64_t{1} << (mantissa - 1) : infinity;
    if (std::isnan(value)) return sign | nan;
    if (std::isinf(value)) return sign | infinity;
    int exponent = 0;
    std::frexp(value, &exponent);
    // Units of the last place: below the smallest normal number they no longer shrink.
    const int unit = (exponent - 1 < 1 - bias ? 1 - bias : exponent - 1) - mantissa;
    // nearbyint rounds to even; scaling by a power of two is exact.
    const double units = std::nearbyint(std::ldexp(std::fabs(value), -unit));
    if (units == 0) return sign;
    // A mantissa that rounds up to the next power carries into the exponent by itself.
    const int64_t biased = unit + mantissa + bias - 1;
    if (biased > 1 << format.exponent_bits) return sign | infinity;
    const uint64_t bits = (static_cast<uint64_t>(biased) << mantissa) + static_cast<uint64_t>(units);
    return sign | (bits >= infinity ? infinity : bits);
}

double decode_narrow(uint64_t bits, Format format) {
    const int bias = (1 << (format.exponent_bits - 1)) - 1, mantissa = format.mantissa_bits;
    const uint64_t ones = (uint64_t{1} << format.exponent_bits) - 1;
    const uint64_t fraction = bits & ((uint64_t{1} << mantissa) - 1), field = bits >> mantissa & ones;
    const double sign = bits >> (format.exponent_bits + mantissa) & 1 ? -1.0 : 1.0;
    if (field == ones) {
        if (format.has_infinity)
            return fraction ? std::numeric_limits<double>::quiet_NaN() : sign * HUGE_VAL;
        if (fraction == (uint64_t{1} << mantissa) - 1) return std::numeric_limits<double>::quiet_NaN();
    }
    const double significand = static_cast<double>(field ? fraction | uint64_t{1} << mantissa : fraction);
    return sign * std::ldexp(significand, static_cast<int>(field ? field : 1) - bias - mantissa);
}

}  // namespace

const DTypeFacts &facts(DType dtype) { return kFacts[static_cast<size_t>(dtype)]; }

bool is_dtype(int dtype) { return dtype >= 0 && dtype < kDTypes; }

std::optional<DType> dtype_called(std::string_view name) {
    for (int i = 0; i < kDTypes; ++i)
        if (name == kFacts[static_cast<size_t>(i)].name) return static_cast<DType>(i);
    return std::nullopt;
}

bool same_layout(DType a, DType b) {
    const auto plain = [](DType d) { return d == TESSERA_TF32 ? TESSERA_F32 : d; };
    return plain(a) == plain(b);
}

uint64_t encode_float(double value, DType dtype) {
    if (dtype == TESSERA_F64) return bits_as<uint64_t>(value);
    if (dtype == TESSERA_F32 || dtype == TESSERA_TF32)
        return bits_as<uint32_t>(static_cast<float>(value));
    return encode_narrow(value, format_of(dtype));
}

double decode_float(uint64_t bits, DType dtype) {
    switch (dtype) {
        case TESSERA_F64: return bits_as<double>(bits);
        case TESSERA_F32:
        case TESSERA_TF32: return bits_as<float>(static_cast<uint32_t>(bits));
        case TESSERA_I64: return static_cast<double>(static_cast<int64_t>(bits));
        case TESSERA_I32: return static_cast<int32_t>(bits);
        case TESSERA_I16: return static_cast<int16_t>(bits);
        case TESSERA_I8: return static_cast<int8_t>(bits);
        case TESSERA_U8: return static_cast<uint8_t>(bits);
        case TESSERA_BOOL: return bits & 0xff ? 1.0 : 0.0;
        case TESSERA_U64: return static_cast<double>(bits);
        case TESSERA_U32: return static_cast<uint32_t>(bits);
        case TESSERA_U16: return static_cast<uint16_t>(bits);
        default: return decode_narrow(bits, format_of(dtype));
    }
}

}  // namespace tessera::native
