// Reads a container file, strictly: nothing in it may be other than a writer would have put there.
#include <algorithm>
#include <unordered_map>

#include "checksum.h"
#include "file_map.h"
#include "inflate.h"
#include "limits.h"
#include "names.h"
#include "source.h"
#include "zip_records.h"

namespace tessera::native {

namespace {

constexpr std::string_view kDirectory = "zip central directory";
constexpr std::string_view kEnd = "zip end record";

EndRecord read_end(Bytes file) {
    if (file.size < kEndSize)
        fail_integrity(kEnd, text("a file of ", file.size, " bytes is no package, or was cut off"));
    const Bytes tail = file.part(file.size - kEndSize, kEndSize);
    const EndRecord end = parse_end(tail);
    if (end_records(end) != tail.chars()) {
        const bool is_zip = tail.chars().find("PK\5\6") != std::string_view::npos;
        fail_integrity(kEnd, is_zip ? "is not what a package ends with"
                                    : "is missing: the file is no package, or was cut off");
    }
    if (end.count < 1 || end.count > kMaxEntries)
        fail_integrity(kDirectory, text(end.count, " entries; allowed are 1 to ", kMaxEntries));
    const uint64_t before = file.size - kEndSize;
    if (end.size > before || end.offset != before - end.size)
        fail_integrity(kDirectory, text("does not end at byte ", before));
    if (end.size < end.count * kMinCentral)
        fail_integrity(kDirectory, text(end.size, " bytes cannot hold ", end.count, " entries"));
    return end;
}

std::vector<Slot> read_slots(Bytes directory, uint64_t count) {
    std::vector<Slot> slots;
    size_t position = 0;
    for (uint64_t index = 0; index < count; ++index) {
        std::optional<Slot> slot = parse_central(directory.part(position, directory.size - position));
        if (!slot) fail_integrity(kDirectory, text("ends inside record ", index, " of ", count));
        if (std::any_of(slot->name.begin(), slot->name.end(), [](char c) { return c < 0x20 || c > 0x7e; }))
            fail_integrity(kDirectory,
                           text("the name ", quoted(slot->name), " holds more than printable ASCII"));
        const std::string expected = central_record(*slot);
        if (directory.part(position, expected.size()).chars() != expected)
            fail_integrity(kDirectory, text("the record of ", quoted(slot->name),
                                            " is not what a writer puts there"));
        position += expected.size();
        slots.push_back(std::move(*slot));
    }
    if (position != directory.size)
        fail_integrity(kDirectory, text(directory.size - position, " bytes after its last record"));
    return slots;
}

// Everything sorted, then the manifest, then the signature where there is one.
void check_order(const std::vector<Slot> &slots) {
    std::vector<std::string> names;
    for (const Slot &slot : slots) names.push_back(slot.name);
    check_names(names);
    if (names.back() == kSignature) names.pop_back();
    if (std::find(names.begin(), names.end(), kSignature) != names.end())
        fail_integrity(kSignature, "must be the last entry");
    if (names.empty() || names.back() != kManifest) {
        const bool there = std::find(names.begin(), names.end(), kManifest) != names.end();
        fail_integrity(kManifest, there ? "must be the last entry but for the signature" : "is missing");
    }
    if (!std::is_sorted(names.begin(), names.end() - 1))
        fail_integrity(kDirectory, "the entries are not sorted by name");
}

void check_method(const Slot &slot) {
    if (slot.method == kStored) {
        if (slot.size != slot.packed_size)
            fail_integrity(slot.name, text("stored, but its sizes differ: ", slot.size, " and ",
                                           slot.packed_size));
    } else if (slot.method != kDeflated) {
        fail_integrity(slot.name, text("compression method ", slot.method,
                                       " is neither stored (0) nor deflate (8)"));
    } else if (slot.name == kManifest || slot.name == kSignature) {
        fail_integrity(slot.name, "must be stored, not deflated");
    } else if (slot.size > kRatioFreeBytes && slot.size / kMaxRatio >= slot.packed_size &&
               (slot.size / kMaxRatio > slot.packed_size || slot.size % kMaxRatio)) {
        fail_integrity(slot.name, text("inflates ", slot.packed_size, " bytes to ", slot.size,
                                       ", more than ", kMaxRatio, " times"));
    }
}

void check_sizes(const std::vector<Slot> &slots) {
    uint64_t inflated = 0, total = 0;
    for (const Slot &slot : slots) {
        check_method(slot);
        // Each is bounded first, so that the sums cannot overflow.
        if (slot.size > kMaxTotalBytes || (total += slot.size) > kMaxTotalBytes)
            fail_integrity(kDirectory, text("entries hold more than ", kMaxTotalBytes, " bytes"));
        if (slot.method == kDeflated && (inflated += slot.size) > kMaxInflatedBytes)
            fail_integrity(kDirectory, text("entries inflate to more than ", kMaxInflatedBytes, " bytes"));
    }
}

// Every local header where the entry before it ends, equal to the directory; no byte between.
void check_places(Bytes file, const std::vector<Slot> &slots, uint64_t directory) {
    uint64_t position = 0;
    for (const Slot &slot : slots) {
        if (slot.header_offset != position)
            fail_integrity(slot.name, text("begins at byte ", slot.header_offset, ", not at ", position,
                                           slot.header_offset < position
                                               ? ": it overlaps the entry before it"
                                               : ": it leaves a gap"));
        const uint64_t length = slot.local_size(), left = directory - position;
        if (length > left || slot.packed_size > left - length)
            fail_integrity(slot.name, text("its ", slot.packed_size, " bytes reach past the last entry"));
        if (file.part(position, length).chars() != local_header(slot))
            fail_integrity(slot.name, "its local header is not what the directory says");
        position += length + slot.packed_size;
    }
    if (position != directory)
        fail_integrity(kDirectory, text(directory - position, " bytes between the last entry and it"));
}

class Container : public Source {
public:
    explicit Container(const std::string &path)
        : file_(map_file(path, path, UINT64_MAX, true)) {
        const Bytes file = file_.bytes;
        const EndRecord end = read_end(file);
        std::vector<Slot> slots = read_slots(file.part(end.offset, end.size), end.count);
        check_order(slots);
        check_sizes(slots);
        check_places(file, slots, end.offset);
        for (Slot &slot : slots) slots_.emplace(slot.name, std::move(slot));
        const Slot &slot = slots_.at(kManifest);
        if (slot.size > kMaxManifestBytes)
            fail_integrity(kManifest, text(slot.size, " bytes, more than ", kMaxManifestBytes));
        const Bytes document = packed(slot);
        manifest_ = read_manifest(document);
        if (crc32(document) != slot.crc)
            fail_integrity(kManifest, "its CRC-32 is not that of its content");
        check_manifest();
        check_signature();
    }

    Content content(const Entry &entry) const override {
        const Slot &slot = slots_.at(entry.path);
        const Bytes found = packed(slot);
        if (slot.method == kStored) return {found, file_.owner};
        if (sha256(found) != *entry.packed_sha256)
            fail_integrity(entry.path, "its compressed data does not fit its digest");
        std::shared_ptr<uint8_t> memory(new uint8_t[entry.size ? entry.size : 1],
                                        std::default_delete<uint8_t[]>());
        if (const auto problem = inflate(found, memory.get(), entry.size))
            fail_integrity(entry.path, text("does not inflate to the ", entry.size,
                                            " bytes it states: ", *problem));
        return {{memory.get(), entry.size}, memory};
    }

    void check_crc(const Entry &entry, Bytes content) const override {
        if (crc32(content) != slots_.at(entry.path).crc)
            fail_integrity(entry.path, "its CRC-32 is not that of its content");
    }

private:
    Bytes packed(const Slot &slot) const {
        return file_.bytes.part(slot.data_offset(), slot.packed_size);
    }

    // That it is undamaged; whose it is, only a key can tell.
    void check_signature() const {
        const auto found = slots_.find(kSignature);
        if (found == slots_.end()) return;
        const Slot &slot = found->second;
        if (slot.size > kMaxSignatureBytes)
            fail_integrity(kSignature, text(slot.size, " bytes, more than ", kMaxSignatureBytes));
        if (crc32(packed(slot)) != slot.crc)
            fail_integrity(kSignature, "its CRC-32 is not that of its content");
    }

    void check_manifest() const {
        const std::vector<Entry> &entries = manifest_.entries;
        if (!std::is_sorted(entries.begin(), entries.end(),
                            [](const Entry &a, const Entry &b) { return a.path < b.path; }))
            fail_integrity(kManifest, "its entries are not sorted by path");
        for (const auto &item : slots_)
            if (item.first != kManifest && item.first != kSignature && !manifest_.entry(item.first))
                fail_integrity(item.first, "is not in the manifest");
        for (const Entry &entry : entries) {
            const auto found = slots_.find(entry.path);
            if (found == slots_.end())
                fail_integrity(entry.path, "is in the manifest, but not in the file");
            const Slot &slot = found->second;
            const bool deflated = slot.method == kDeflated;
            const bool same = entry.size == slot.size && entry.deflated == deflated &&
                              entry.offset == slot.data_offset() &&
                              entry.packed_sha256.has_value() == deflated &&
                              entry.packed_size ==
                                  (deflated ? std::optional<uint64_t>(slot.packed_size) : std::nullopt);
            if (!same) fail_integrity(entry.path, "its size or place is not what the manifest says");
        }
    }

    Content file_;
    std::unordered_map<std::string, Slot> slots_;
};

}  // namespace

std::unique_ptr<Source> open_container(const std::string &path) {
    return std::make_unique<Container>(path);
}

}  // namespace tessera::native
