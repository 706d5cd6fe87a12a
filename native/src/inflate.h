// Raw deflate data back to what it was made from. Source: RFC 1951.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bytes.h"

namespace tessera::native {

// Inflate all of `packed` into exactly `size` bytes at `out`.
// Returns what is wrong with the data, if anything; nothing outside `out` is written ever.
std::optional<std::string> inflate(Bytes packed, uint8_t *out, size_t size);

}  // namespace tessera::native
