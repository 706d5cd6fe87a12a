// Source: PKWARE APPNOTE.TXT 6.3.10; the padding field 0xD935 is that of Android's zipalign.
#include "zip_records.h"

namespace tessera::native {

namespace {

constexpr uint64_t kPage = 4096;
constexpr std::string_view kAligned = "weights/";
constexpr uint16_t kVersion = 45, kMadeBy = 3 << 8 | 45, kDate1980 = 0x0021;
constexpr uint32_t kMode = uint32_t{0100644} << 16, kFull = 0xffffffff;

// Little-endian numbers, one after the other.
class Record {
public:
    Record &u16(uint64_t value) { return number(value, 2); }
    Record &u32(uint64_t value) { return number(value, 4); }
    Record &u64(uint64_t value) { return number(value, 8); }
    Record &chars(std::string_view text) {
        bytes_ += text;
        return *this;
    }
    Record &zeros(size_t count) {
        bytes_.append(count, '\0');
        return *this;
    }
    std::string done() { return std::move(bytes_); }

private:
    Record &number(uint64_t value, int size) {
        for (int i = 0; i < size; ++i) bytes_ += static_cast<char>(value >> (8 * i) & 255);
        return *this;
    }
    std::string bytes_;
};

uint64_t read(Bytes data, size_t offset, int size) {
    uint64_t value = 0;
    for (int i = 0; i < size; ++i) value |= uint64_t{data.data[offset + size_t(i)]} << (8 * i);
    return value;
}

// Bytes of the padding field; 0 where the entry has none.
uint64_t padding_size(const Slot &slot) {
    if (slot.method != kStored || slot.name.compare(0, kAligned.size(), kAligned) != 0) return 0;
    const uint64_t bare = slot.header_offset + 30 + slot.name.size() + 20 + 6;
    return 6 + (kPage - bare % kPage) % kPage;
}

}  // namespace

uint64_t Slot::local_size() const { return 30 + name.size() + 20 + padding_size(*this); }

std::string local_header(const Slot &slot) {
    const uint64_t padding = padding_size(slot);
    Record record;
    record.chars("PK\3\4").u16(kVersion).u16(0).u16(slot.method).u16(0).u16(kDate1980);
    record.u32(slot.crc).u32(kFull).u32(kFull).u16(slot.name.size()).u16(20 + padding);
    record.chars(slot.name).u16(1).u16(16).u64(slot.size).u64(slot.packed_size);
    if (padding) record.u16(0xd935).u16(padding - 4).u16(kPage).zeros(padding - 6);
    return record.done();
}

std::string central_record(const Slot &slot) {
    Record record;
    record.chars("PK\1\2").u16(kMadeBy).u16(kVersion).u16(0).u16(slot.method);
    record.u16(0).u16(kDate1980).u32(slot.crc).u32(kFull).u32(kFull);
    record.u16(slot.name.size()).u16(28).u16(0).u16(0).u16(0).u32(kMode).u32(kFull);
    record.chars(slot.name).u16(1).u16(24);
    return record.u64(slot.size).u64(slot.packed_size).u64(slot.header_offset).done();
}

std::string end_records(const EndRecord &end) {
    Record record;
    record.chars("PK\6\6").u64(44).u16(kMadeBy).u16(kVersion).u32(0).u32(0);
    record.u64(end.count).u64(end.count).u64(end.size).u64(end.offset);
    record.chars("PK\6\7").u32(0).u64(end.offset + end.size).u32(1);
    record.chars("PK\5\6").u16(0).u16(0).u16(0xffff).u16(0xffff);
    return record.u32(kFull).u32(kFull).u16(0).done();
}

EndRecord parse_end(Bytes data) { return {read(data, 24, 8), read(data, 40, 8), read(data, 48, 8)}; }

std::optional<Slot> parse_central(Bytes data) {
    if (data.size < kMinCentral) return std::nullopt;
    const size_t name = read(data, 28, 2);
    if (data.size < kMinCentral + name) return std::nullopt;
    Slot slot;
    slot.name = data.part(46, name).chars();
    slot.method = static_cast<uint16_t>(read(data, 10, 2));
    slot.crc = static_cast<uint32_t>(read(data, 16, 4));
    slot.size = read(data, 46 + name + 4, 8);
    slot.packed_size = read(data, 46 + name + 12, 8);
    slot.header_offset = read(data, 46 + name + 20, 8);
    return slot;
}

}  // namespace tessera::native
