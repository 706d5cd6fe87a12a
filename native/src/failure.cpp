#include "failure.h"

namespace tessera::native {

namespace {
constexpr size_t kLongestName = 120;
}

std::string quoted(std::string_view name) {
    static const char digits[] = "0123456789abcdef";
    std::string out = "'";
    for (char c : name.substr(0, kLongestName)) {
        auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7f) {
            out += c;
        } else {
            out += "\\x";
            out += digits[byte >> 4];
            out += digits[byte & 15];
        }
    }
    if (name.size() > kLongestName) out += "...";
    return out + "'";
}

void fail_integrity(std::string_view entry, std::string_view problem) {
    throw Failure(TESSERA_INTEGRITY_ERROR, text(entry, ": ", problem),
                  "copy or download the package again, or build it again");
}

}  // namespace tessera::native
