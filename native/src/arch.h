// Names of compile targets, and which code runs on which GPU.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tessera::native {

// One compile target of NVIDIA's, such as `sm_90a`.
struct Architecture {
    int major = 0;
    int minor = 0;
    // `a`: runs on exactly this architecture; `f`: on its family; 0: on later minors too.
    char suffix = 0;

    std::string name() const;
    // Whether a cubin for this architecture loads on a device of that compute capability.
    // Source: CUDA C++ Programming Guide, "Binary Compatibility" and "Architecture-Specific Features".
    bool cubin_runs_on(int device_major, int device_minor) const;
    // Whether the driver of that device compiles PTX for this architecture.
    bool ptx_runs_on(int device_major, int device_minor) const;
};

// `sm_90a` as an Architecture; nothing for another name.
std::optional<Architecture> parse_architecture(std::string_view name);

// `cpu-x86_64-v3` and the like.
bool is_cpu_target(std::string_view name);

// Whether `name` is a full target name: of a GPU's or a CPU's.
bool is_target(std::string_view name);

}  // namespace tessera::native
