// Caps that keep a hostile package from exhausting a reader; docs/format.md explains each.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessera::native {

constexpr uint64_t kMaxEntries = 65536;
constexpr uint64_t kMaxManifestBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxDocumentBytes = uint64_t{256} << 20;
constexpr uint64_t kMaxSignatureBytes = uint64_t{64} << 20;
constexpr int kMaxJsonDepth = 128;
// Values of one JSON document: short ones, such as `[0,0,...]`, take 20 times their text in memory.
constexpr size_t kMaxJsonValues = size_t{8} << 20;
constexpr uint64_t kMaxRatio = 200;
constexpr uint64_t kRatioFreeBytes = uint64_t{1} << 20;
constexpr uint64_t kMaxInflatedBytes = uint64_t{64} << 30;
constexpr uint64_t kMaxTotalBytes = uint64_t{16} << 40;

}  // namespace tessera::native
