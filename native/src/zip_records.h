// The ZIP records of a package, byte for byte. Each has one form only (docs/format.md), so a
// reader rebuilds it from what it says and compares bytes: nothing can hide in a header.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bytes.h"

namespace tessera::native {

constexpr uint16_t kStored = 0, kDeflated = 8;
constexpr size_t kEndSize = 98;      // the three end records together
constexpr size_t kMinCentral = 74;   // a directory record with an empty name

// One entry as the ZIP records describe it.
struct Slot {
    std::string name;
    uint16_t method = kStored;
    uint32_t crc = 0;
    uint64_t packed_size = 0;
    uint64_t size = 0;
    uint64_t header_offset = 0;

    // Bytes of the local header, padding included.
    uint64_t local_size() const;
    uint64_t data_offset() const { return header_offset + local_size(); }
};

struct EndRecord {
    uint64_t count, size, offset;  // entries; the central directory
};

std::string local_header(const Slot &slot);
std::string central_record(const Slot &slot);
std::string end_records(const EndRecord &end);

// What `kEndSize` bytes state.
EndRecord parse_end(Bytes data);
// The entry at the start of `data`; nothing if too little is there.
std::optional<Slot> parse_central(Bytes data);

}  // namespace tessera::native
