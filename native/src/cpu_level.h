// What this machine's CPU can do, and which of a package's CPU targets it runs.
#pragma once

#include <string>
#include <vector>

namespace tessera::native {

struct CpuFeatures {
    bool x86_64_v2 = false;  // up to SSE4.2 and POPCNT
    bool x86_64_v3 = false;  // AVX2, FMA, BMI, F16C, MOVBE
    bool avx512f = false;
    bool sha = false;  // SHA instructions, with SSE4.1
};

// Found once per process. AVX counts only where the system saves its registers.
const CpuFeatures &cpu_features();

// CPU targets that run here, best first: "cpu-x86_64-v3", ...
std::vector<std::string> host_cpu_targets();

}  // namespace tessera::native
