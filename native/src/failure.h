// The one exception of the runtime, and the text it carries.
#pragma once

#include <tessera/c_api.h>

#include <exception>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>

namespace tessera::native {

// What went wrong, where, measured against what; and what to do about it.
class Failure : public std::exception {
public:
    Failure(tessera_status status, std::string message, std::string hint = "")
        : status(status), message(std::move(message)), hint(std::move(hint)) {}

    const char *what() const noexcept override { return message.c_str(); }

    tessera_status status;
    std::string message;
    std::string hint;
};

// The parts one after the other. Numbers are written as in C, whatever the process's locale.
template <class... Parts>
std::string text(const Parts &...parts) {
    std::ostringstream out;
    out.imbue(std::locale::classic());
    (out << ... << parts);
    return out.str();
}

// `name` in quotes, printable and not endless: names come from strangers.
std::string quoted(std::string_view name);

// An entry of a package is damaged.
[[noreturn]] void fail_integrity(std::string_view entry, std::string_view problem);

}  // namespace tessera::native
