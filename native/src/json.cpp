#include "json.h"

#include <clocale>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <unordered_set>

#include "failure.h"
#include "limits.h"

#include <locale.h>

namespace tessera::native {

const Json *Json::find(std::string_view key) const {
    if (const Object *members = object())
        for (const auto &[name, value] : *members)
            if (name == key) return &value;
    return nullptr;
}

namespace {

// strtod reads the decimal comma of the process's locale otherwise.
double to_double(const std::string &digits) {
    static const locale_t classic = newlocale(LC_ALL_MASK, "C", nullptr);
    return strtod_l(digits.c_str(), nullptr, classic);
}

class Parser {
public:
    explicit Parser(std::string_view document) : text_(document) {}

    Json document() {
        Json found = value(0);
        space();
        if (at_ != text_.size()) bad("data after the document");
        return found;
    }

private:
    [[noreturn]] void bad(std::string_view problem) const {
        throw JsonError{text("not strict JSON: ", problem, " at byte ", at_)};
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    void space() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' ||
                                      text_[at_] == '\r'))
            ++at_;
    }

    void expect(char c) {
        if (at_ >= text_.size() || text_[at_] != c) bad(text("no '", c, "'"));
        ++at_;
    }

    bool accept(char c) {
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }

    void word(std::string_view expected) {
        if (text_.substr(at_, expected.size()) != expected) bad("not a value");
        at_ += expected.size();
    }

    Json value(int depth) {
        if (++values_ > kMaxJsonValues)
            throw JsonError{text("more than ", kMaxJsonValues, " JSON values")};
        space();
        switch (peek()) {
            case '{': return object(depth + 1);
            case '[': return list(depth + 1);
            case '"': return Json(string());
            case 't': return word("true"), Json(true);
            case 'f': return word("false"), Json(false);
            case 'n': return word("null"), Json();
            default: return number();
        }
    }

    void check_depth(int depth) const {
        if (depth > kMaxJsonDepth)
            throw JsonError{text("JSON nested more than ", kMaxJsonDepth, " deep")};
    }

    Json list(int depth) {
        check_depth(depth);
        expect('[');
        Json::List items;
        space();
        if (accept(']')) return Json(std::move(items));
        do {
            items.push_back(value(depth));
            space();
        } while (accept(','));
        expect(']');
        return Json(std::move(items));
    }

    Json object(int depth) {
        check_depth(depth);
        expect('{');
        Json::Object members;
        space();
        if (accept('}')) return Json(std::move(members));
        do {
            space();
            std::string key = string();
            space();
            expect(':');
            members.emplace_back(std::move(key), value(depth));
            space();
        } while (accept(','));
        expect('}');
        check_keys(members);
        return Json(std::move(members));
    }

    void check_keys(const Json::Object &members) const {
        std::unordered_set<std::string_view> seen;
        for (const auto &member : members)
            if (!seen.insert(member.first).second)
                throw JsonError{
                    text("not strict JSON: the key ", quoted(member.first), " appears twice in one object")};
    }

    std::string string() {
        expect('"');
        std::string out;
        for (;;) {
            if (at_ >= text_.size()) bad("a string without an end");
            const auto c = static_cast<unsigned char>(text_[at_]);
            if (c == '"') return ++at_, out;
            if (c < 0x20) bad("a control character in a string");
            if (c == '\\')
                escape(out);
            else if (c < 0x80)
                out += text_[at_++];
            else
                multibyte(out);
        }
    }

    void escape(std::string &out) {
        static constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
        ++at_;
        const char c = peek();
        if (c == 'u') return ++at_, unicode(out);
        const size_t found = c ? from.find(c) : std::string_view::npos;
        if (found == std::string_view::npos) bad("an unknown escape");
        out += to[found];
        ++at_;
    }

    uint32_t hex4() {
        uint32_t code = 0;
        for (int i = 0; i < 4; ++i, ++at_) {
            const char c = peek();
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            if (digit < 0) bad("not four hexadecimal digits");
            code = code * 16 + static_cast<uint32_t>(digit);
        }
        return code;
    }

    void unicode(std::string &out) {
        uint32_t code = hex4();
        if (code >= 0xdc00 && code < 0xe000) bad("half a surrogate pair");
        if (code >= 0xd800 && code < 0xdc00) {
            if (!accept('\\') || !accept('u')) bad("half a surrogate pair");
            const uint32_t low = hex4();
            if (low < 0xdc00 || low >= 0xe000) bad("half a surrogate pair");
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        append_utf8(out, code);
    }

    static void append_utf8(std::string &out, uint32_t code) {
        const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        static constexpr uint32_t lead[] = {0, 0xc0, 0xe0, 0xf0};
        out += static_cast<char>(lead[more] | code >> (6 * more));
        for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | (code >> (6 * i) & 0x3f));
    }

    // Copy one character of two to four bytes. Source: RFC 3629, section 4.
    void multibyte(std::string &out) {
        const auto byte = [&](size_t i) {
            return at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0u;
        };
        const unsigned lead = byte(0), second = byte(1);
        const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        bool valid = lead >= 0xc2 && lead <= 0xf4 && second >= low && second <= high;
        for (size_t i = 2; i < length; ++i) valid = valid && (byte(i) & 0xc0) == 0x80;
        if (!valid) bad("invalid UTF-8");
        out.append(text_.substr(at_, length));
        at_ += length;
    }

    void digits() {
        if (peek() < '0' || peek() > '9') bad("not a value");
        while (peek() >= '0' && peek() <= '9') ++at_;
    }

    Json number() {
        const size_t start = at_;
        accept('-');
        if (!accept('0')) digits();
        bool whole = true;
        if (accept('.')) whole = false, digits();
        if (peek() == 'e' || peek() == 'E') {
            whole = false;
            ++at_;
            if (!accept('+')) accept('-');
            digits();
        }
        const std::string_view found = text_.substr(start, at_ - start);
        int64_t integer = 0;
        if (whole && to_integer(found, integer)) return Json(integer);
        const double real = to_double(std::string(found));
        if (!std::isfinite(real)) bad("a number out of range");
        return Json(real);
    }

    static bool to_integer(std::string_view found, int64_t &out) {
        const bool negative = found.front() == '-';
        for (char c : found.substr(negative ? 1 : 0))
            if (__builtin_mul_overflow(out, int64_t{10}, &out) ||
                __builtin_add_overflow(out, negative ? '0' - c : c - '0', &out))
                return false;
        return true;
    }

    std::string_view text_;
    size_t at_ = 0;
    size_t values_ = 0;

    template <class... Parts>
    static std::string text(const Parts &...parts) {
        return native::text(parts...);
    }
};

}  // namespace

Json parse_json(std::string_view document) { return Parser(document).document(); }

}  // namespace tessera::native
