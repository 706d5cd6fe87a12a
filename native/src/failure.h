// The one exception of the runtime, and the text it carries.
#pragma once

#include <tessera/c_api.h>

#include <exception>
#include <string>
#include <string_view>
#include <type_traits>

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

// The parts one after the other: texts, characters and integers.
// Not a stream: those read the process's locale, and their headers double the time to compile.
template <class... Parts>
std::string text(const Parts &...parts) {
    std::string out;
    const auto append = [&out](const auto &part) {
        using Part = std::decay_t<decltype(part)>;
        if constexpr (std::is_same_v<Part, char>)
            out += part;
        else if constexpr (std::is_integral_v<Part>)
            out += std::to_string(part);
        else
            out += std::string_view(part);
    };
    (append(parts), ...);
    return out;
}

// `name` in quotes, printable and not endless: names come from strangers.
std::string quoted(std::string_view name);

// An entry of a package is damaged.
[[noreturn]] void fail_integrity(std::string_view entry, std::string_view problem);

}  // namespace tessera::native
