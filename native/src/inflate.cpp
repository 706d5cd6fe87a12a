#include "inflate.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace tessera::native {

namespace {

constexpr int kFastBits = 10;
constexpr int kMaxBits = 15;
constexpr int kInvalid = -1;

// What stops inflating; the text names the cause.
struct Bad {
    const char *problem;
};

// Bits of the packed data, lowest first. Past the end it reads zeros and remembers that.
class Bits {
public:
    explicit Bits(Bytes data) : data_(data) {}

    void refill() {
        while (held_ <= 56) {
            const uint64_t byte = next_ < data_.size ? data_.data[next_] : 0;
            ++next_;
            buffer_ |= byte << held_;
            held_ += 8;
        }
    }

    uint32_t peek(int count) const {
        return static_cast<uint32_t>(buffer_ & ((uint64_t{1} << count) - 1));
    }

    void drop(int count) {
        buffer_ >>= count;
        held_ -= count;
    }

    uint32_t take(int count) {
        refill();
        const uint32_t value = peek(count);
        drop(count);
        return value;
    }

    void to_byte() { drop(held_ % 8); }

    // Move on by whole bytes, from a byte's start.
    void skip(size_t bytes) {
        next_ = used() + bytes;
        buffer_ = 0;
        held_ = 0;
    }

    // Bytes used so far, the last one perhaps in part.
    size_t used() const { return next_ - static_cast<size_t>(held_) / 8; }
    bool past_end() const { return used() > data_.size; }

private:
    Bytes data_;
    size_t next_ = 0;
    uint64_t buffer_ = 0;
    int held_ = 0;
};

// A canonical prefix code: short codes by table, long ones by counting.
class PrefixCode {
public:
    // Lengths of the codes by symbol; 0 is no code.
    PrefixCode(const uint8_t *lengths, int symbols, const char *problem) {
        std::array<uint16_t, kMaxBits + 2> offset{};
        for (int s = 0; s < symbols; ++s) ++count_[lengths[s]];
        count_[0] = 0;
        int left = 1, longest = 0;
        for (int length = 1; length <= kMaxBits; ++length) {
            left = 2 * left - count_[static_cast<size_t>(length)];
            if (left < 0) throw Bad{problem};
            if (count_[static_cast<size_t>(length)]) longest = length;
        }
        // A code with gaps has one use: a single symbol, of one bit (or none at all).
        if (left > 0 && longest > 1) throw Bad{problem};
        for (size_t length = 1; length <= kMaxBits; ++length)
            offset[length + 1] = static_cast<uint16_t>(offset[length] + count_[length]);
        for (int s = 0; s < symbols; ++s)
            if (lengths[s]) symbol_[offset[lengths[s]]++] = static_cast<uint16_t>(s);
        fill_table();
    }

    // The next symbol; `kInvalid` where the bits are no code.
    int read(Bits &bits) const {
        bits.refill();
        const uint16_t entry = fast_[bits.peek(kFastBits)];
        if (entry) {
            bits.drop(entry & 15);
            return entry >> 4;
        }
        int code = 0, first = 0, index = 0;
        for (int length = 1; length <= kMaxBits; ++length) {
            code |= static_cast<int>(bits.peek(length) >> (length - 1) & 1);
            const int count = count_[static_cast<size_t>(length)];
            if (code - count < first) {
                bits.drop(length);
                return symbol_[static_cast<size_t>(index + code - first)];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        return kInvalid;
    }

private:
    void fill_table() {
        uint32_t code = 0;
        size_t index = 0;
        for (int length = 1; length <= kFastBits; ++length, code <<= 1)
            for (int i = 0; i < count_[static_cast<size_t>(length)]; ++i, ++code, ++index) {
                uint32_t reversed = 0;
                for (int bit = 0; bit < length; ++bit)
                    reversed |= (code >> bit & 1) << (length - 1 - bit);
                const auto entry = static_cast<uint16_t>(symbol_[index] << 4 | length);
                for (uint32_t at = reversed; at < fast_.size(); at += 1u << length) fast_[at] = entry;
            }
    }

    std::array<uint16_t, kMaxBits + 1> count_{};
    std::array<uint16_t, 288> symbol_{};
    std::array<uint16_t, 1 << kFastBits> fast_{};
};

struct Range {
    uint16_t base;
    uint8_t extra_bits;
};

constexpr Range kLengths[29] = {{3, 0},  {4, 0},  {5, 0},  {6, 0},   {7, 0},   {8, 0},
                                {9, 0},  {10, 0}, {11, 1}, {13, 1},  {15, 1},  {17, 1},
                                {19, 2}, {23, 2}, {27, 2}, {31, 2},  {35, 3},  {43, 3},
                                {51, 3}, {59, 3}, {67, 4}, {83, 4},  {99, 4},  {115, 4},
                                {131, 5}, {163, 5}, {195, 5}, {227, 5}, {258, 0}};
constexpr Range kDistances[30] = {
    {1, 0},    {2, 0},    {3, 0},     {4, 0},     {5, 1},     {7, 1},     {9, 2},      {13, 2},
    {17, 3},   {25, 3},   {33, 4},    {49, 4},    {65, 5},    {97, 5},    {129, 6},    {193, 6},
    {257, 7},  {385, 7},  {513, 8},   {769, 8},   {1025, 9},  {1537, 9},  {2049, 10},  {3073, 10},
    {4097, 11}, {6145, 11}, {8193, 12}, {12289, 12}, {16385, 13}, {24577, 13}};

class Inflater {
public:
    Inflater(Bytes packed, uint8_t *out, size_t size)
        : packed_(packed), bits_(packed), out_(out), size_(size) {}

    void run() {
        for (bool last = false; !last;) {
            last = bits_.take(1) != 0;
            switch (bits_.take(2)) {
                case 0: stored(); break;
                case 1: fixed(); break;
                case 2: dynamic(); break;
                default: throw Bad{"invalid block type"};
            }
            if (bits_.past_end()) throw Bad{"the data ends too early"};
        }
        if (bits_.used() != packed_.size) throw Bad{"bytes after the last block"};
        if (position_ != size_) throw Bad{"too little data"};
    }

private:
    void stored() {
        bits_.to_byte();
        const uint32_t length = bits_.take(16), complement = bits_.take(16);
        if (length != (complement ^ 0xffff)) throw Bad{"invalid stored block lengths"};
        const size_t at = bits_.used();
        if (at > packed_.size || length > packed_.size - at) throw Bad{"the data ends too early"};
        if (length > size_ - position_) throw Bad{"too much data"};
        if (length) std::memcpy(out_ + position_, packed_.data + at, length);
        position_ += length;
        bits_.skip(length);
    }

    void fixed() {
        uint8_t lengths[288], distances[32];
        for (int i = 0; i < 288; ++i)
            lengths[i] = static_cast<uint8_t>(i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8);
        std::fill(distances, distances + 32, uint8_t{5});
        block(PrefixCode(lengths, 288, "invalid code"), PrefixCode(distances, 32, "invalid code"));
    }

    void dynamic() {
        static constexpr uint8_t order[19] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                              11, 4,  12, 3, 13, 2, 14, 1, 15};
        const int literals = static_cast<int>(bits_.take(5)) + 257;
        const int distances = static_cast<int>(bits_.take(5)) + 1;
        const int codes = static_cast<int>(bits_.take(4)) + 4;
        if (literals > 286 || distances > 30) throw Bad{"too many length or distance symbols"};
        uint8_t code_lengths[19] = {}, lengths[286 + 30] = {};
        for (int i = 0; i < codes; ++i) code_lengths[order[i]] = static_cast<uint8_t>(bits_.take(3));
        const PrefixCode code(code_lengths, 19, "invalid code lengths set");
        for (int i = 0; i < literals + distances;) i = one_length(code, lengths, i, literals + distances);
        if (!lengths[256]) throw Bad{"no end-of-block code"};
        block(PrefixCode(lengths, literals, "invalid literal or length codes"),
              PrefixCode(lengths + literals, distances, "invalid distance codes"));
    }

    // Read one code length, or a repetition of one, and return the index after it.
    int one_length(const PrefixCode &code, uint8_t *lengths, int index, int end) {
        const int symbol = code.read(bits_);
        if (symbol == kInvalid) throw Bad{"invalid code lengths set"};
        if (symbol < 16) {
            lengths[index] = static_cast<uint8_t>(symbol);
            return index + 1;
        }
        if (symbol == 16 && index == 0) throw Bad{"invalid bit length repeat"};
        const uint8_t value = symbol == 16 ? lengths[index - 1] : uint8_t{0};
        const auto count = static_cast<int>(symbol == 16   ? 3 + bits_.take(2)
                                            : symbol == 17 ? 3 + bits_.take(3)
                                                           : 11 + bits_.take(7));
        if (count > end - index) throw Bad{"invalid bit length repeat"};
        std::fill(lengths + index, lengths + index + count, value);
        return index + count;
    }

    void block(const PrefixCode &literals, const PrefixCode &distances) {
        for (;;) {
            const int symbol = literals.read(bits_);
            if (symbol == 256) return;
            if (symbol == kInvalid || symbol > 285) throw Bad{"invalid literal or length code"};
            // Zeros after the end could go on for ever.
            if (bits_.past_end()) throw Bad{"the data ends too early"};
            if (symbol < 256) {
                if (position_ == size_) throw Bad{"too much data"};
                out_[position_++] = static_cast<uint8_t>(symbol);
            } else {
                copy(kLengths[symbol - 257], distances);
            }
        }
    }

    void copy(Range range, const PrefixCode &distances) {
        const size_t length = range.base + bits_.take(range.extra_bits);
        const int symbol = distances.read(bits_);
        if (symbol == kInvalid || symbol > 29) throw Bad{"invalid distance code"};
        const size_t distance =
            kDistances[symbol].base + bits_.take(kDistances[symbol].extra_bits);
        if (distance > position_) throw Bad{"invalid distance too far back"};
        if (length > size_ - position_) throw Bad{"too much data"};
        uint8_t *to = out_ + position_;
        // Byte by byte where the copy reads what it has just written.
        if (distance >= length)
            std::memcpy(to, to - distance, length);
        else
            for (size_t i = 0; i < length; ++i) to[i] = to[i - distance];
        position_ += length;
    }

    Bytes packed_;
    Bits bits_;
    uint8_t *out_;
    size_t size_;
    size_t position_ = 0;
};

}  // namespace

std::optional<std::string> inflate(Bytes packed, uint8_t *out, size_t size) {
    try {
        Inflater(packed, out, size).run();
    } catch (const Bad &bad) {
        return bad.problem;
    }
    return std::nullopt;
}

}  // namespace tessera::native
