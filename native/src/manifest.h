// `manifest.json`: what a package holds, with the size and digest of every entry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "bytes.h"
#include "dtype.h"

namespace tessera::native {

constexpr const char *kManifest = "manifest.json";
// The signature over the manifest and all that it lists. This runtime reads past it: it checks digests,
// not signers.
constexpr const char *kSignature = "META/model.sig";

struct Entry {
    std::string path;
    uint64_t size = 0;
    std::string sha256;
    bool deflated = false;
    // Where it lies in a container; absent in a folder that never was one.
    std::optional<uint64_t> offset;
    std::optional<uint64_t> packed_size;
    std::optional<std::string> packed_sha256;
};

struct ProgramRow {
    std::string name, path;
};

enum class CodeFormat { Cubin, Ptx, SharedObject };

struct KernelRow {
    std::string program;
    std::string name;
    std::vector<std::string> kernels;  // entry names inside
    std::string target;
    CodeFormat format;
    std::string path;
};

struct WeightRow {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
    std::string path;
};

struct Manifest {
    std::string kind, name, version;
    std::vector<ProgramRow> programs;
    std::vector<KernelRow> kernels;
    std::vector<WeightRow> weights;
    std::vector<std::string> config, runtime;  // paths
    std::vector<Entry> entries;                // sorted by path
    std::string digest;

    const Entry *entry(const std::string &path) const;

    // Index of each of `entries` by path.
    std::unordered_map<std::string, size_t> entry_index;
};

// The manifest that `document` holds, checked by itself: digest, tables, sizes of weights.
// Throws a `Failure` where a writer would not have written it so, or for another major version.
Manifest read_manifest(Bytes document);

}  // namespace tessera::native
