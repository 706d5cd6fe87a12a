#include "arch.h"

#include "failure.h"

namespace tessera::native {

std::string Architecture::name() const {
    return text("sm_", major, minor, suffix ? std::string(1, suffix) : std::string());
}

bool Architecture::cubin_runs_on(int device_major, int device_minor) const {
    if (suffix == 'a') return device_major == major && device_minor == minor;
    return device_major == major && device_minor >= minor;
}

bool Architecture::ptx_runs_on(int device_major, int device_minor) const {
    if (suffix) return cubin_runs_on(device_major, device_minor);
    return major < device_major || (major == device_major && minor <= device_minor);
}

std::optional<Architecture> parse_architecture(std::string_view name) {
    constexpr std::string_view prefix = "sm_";
    if (name.substr(0, prefix.size()) != prefix) return std::nullopt;
    name.remove_prefix(prefix.size());
    Architecture found;
    if (!name.empty() && (name.back() == 'a' || name.back() == 'f')) {
        found.suffix = name.back();
        name.remove_suffix(1);
    }
    const bool digits = name.find_first_not_of("0123456789") == std::string_view::npos;
    if (name.size() < 2 || name.size() > 3 || !digits || name[0] == '0') return std::nullopt;
    for (char c : name.substr(0, name.size() - 1)) found.major = found.major * 10 + (c - '0');
    found.minor = name.back() - '0';
    return found;
}

bool is_cpu_target(std::string_view name) { return name.substr(0, 4) == "cpu-"; }

bool is_target(std::string_view name) {
    return name == "cpu-x86_64-v2" || name == "cpu-x86_64-v3" || name == "cpu-aarch64" ||
           parse_architecture(name).has_value();
}

}  // namespace tessera::native
