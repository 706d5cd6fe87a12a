// SHA-256 and CRC-32 of bytes.
#pragma once

#include <cstdint>
#include <string>

#include "bytes.h"

namespace tessera::native {

// The SHA-256 of `bytes` as 64 lower-case hexadecimal digits. Source: FIPS 180-4.
std::string sha256(Bytes bytes);

// The same without the CPU's SHA instructions, for tests and for CPUs that lack them.
std::string sha256_portable(Bytes bytes);

// The CRC-32 of ZIP. Source: PKWARE APPNOTE.TXT 4.4.7.
uint32_t crc32(Bytes bytes);

}  // namespace tessera::native
