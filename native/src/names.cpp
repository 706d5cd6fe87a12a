#include "names.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>

#include "failure.h"

namespace tessera::native {

namespace {

constexpr size_t kMaxName = 512, kMaxSegment = 200, kMaxSegments = 8;

// Locale-free, unlike those of <cctype>.
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lowered(std::string_view name) {
    std::string out(name);
    std::transform(out.begin(), out.end(), out.begin(), lower);
    return out;
}

std::vector<std::string_view> segments(std::string_view name) {
    std::vector<std::string_view> found;
    for (size_t start = 0;;) {
        const size_t end = name.find('/', start);
        found.push_back(name.substr(start, end - start));
        if (end == std::string_view::npos) return found;
        start = end + 1;
    }
}

bool is_plain(std::string_view segment) {
    constexpr std::string_view marks = "_%+", inner = ".-";
    const auto first = [&](char c) {
        return is_letter(c) || is_digit(c) || marks.find(c) != std::string_view::npos;
    };
    return !segment.empty() && first(segment[0]) && segment.back() != '.' &&
           std::all_of(segment.begin(), segment.end(), [&](char c) {
               return first(c) || inner.find(c) != std::string_view::npos;
           });
}

// File names that Windows keeps for devices, with any ending.
bool is_device(std::string_view segment) {
    const std::string stem = lowered(segment.substr(0, segment.find('.')));
    if (stem == "con" || stem == "prn" || stem == "aux" || stem == "nul") return true;
    const std::string family = stem.substr(0, 3);
    return stem.size() == 4 && (family == "com" || family == "lpt") && is_digit(stem[3]);
}

// What makes a name unsafe, most telling first; empty if nothing does.
std::string_view problem_of(std::string_view name) {
    if (name.empty()) return "is empty";
    if (name.find('\0') != std::string_view::npos) return "holds a NUL byte";
    if (name.find('\\') != std::string_view::npos) return "holds a backslash";
    if (name[0] == '/' || (name.size() > 1 && is_letter(name[0]) && name[1] == ':'))
        return "is an absolute path";
    const std::vector<std::string_view> parts = segments(name);
    if (std::find(parts.begin(), parts.end(), "..") != parts.end())
        return "leaves the package with '..'";
    if (name.back() == '/') return "is a folder, not a file";
    if (name.size() > kMaxName) return "is longer than 512 characters";
    if (parts.size() > kMaxSegments) return "has more than 8 segments";
    for (std::string_view part : parts)
        if (part.size() > kMaxSegment) return "has a segment over 200 characters";
    for (std::string_view part : parts)
        if (!is_plain(part)) return "has a segment that is not plain letters, digits and _.%+-";
    for (std::string_view part : parts)
        if (is_device(part)) return "is a device on Windows";
    return "";
}

[[noreturn]] void refuse(std::string_view name, std::string_view problem) {
    throw Failure(TESSERA_INTEGRITY_ERROR, text("entry name ", quoted(name), " ", problem));
}

}  // namespace

void check_names(const std::vector<std::string> &names) {
    std::unordered_map<std::string, const std::string *> seen;
    for (const std::string &name : names) {
        if (const std::string_view problem = problem_of(name); !problem.empty())
            refuse(name, problem);
        const auto [twin, is_new] = seen.emplace(lowered(name), &name);
        if (!is_new)
            refuse(name, *twin->second == name
                             ? std::string("appears twice")
                             : text("differs from ", quoted(*twin->second), " only in case"));
    }
    for (const auto &[key, name] : seen)
        for (size_t slash = key.find('/'); slash != std::string::npos; slash = key.find('/', slash + 1))
            if (const auto folder = seen.find(key.substr(0, slash)); folder != seen.end())
                refuse(*folder->second, text("is also a folder of ", quoted(*name)));
}

}  // namespace tessera::native
