// Source: Intel SDM volume 2, CPUID; x86-64 psABI, micro-architecture levels.
#include "cpu_level.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tessera::native {

#if defined(__x86_64__)
namespace {

bool bit(unsigned value, int index) { return (value >> index & 1) != 0; }

// Which register states the system saves on a context switch.
unsigned saved_states() {
    unsigned low = 0, high = 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

CpuFeatures detect() {
    unsigned a = 0, b = 0, c1 = 0, d = 0, b7 = 0, c7 = 0, ext = 0, unused = 0;
    CpuFeatures found;
    if (!__get_cpuid(1, &a, &b, &c1, &d)) return found;
    __get_cpuid_count(7, 0, &a, &b7, &c7, &d);
    __get_cpuid(0x80000001, &a, &unused, &ext, &d);
    const bool sse41 = bit(c1, 19), ssse3 = bit(c1, 9);
    found.x86_64_v2 = ssse3 && sse41 && bit(c1, 20) && bit(c1, 23) && bit(c1, 13) && bit(ext, 0);
    const unsigned states = bit(c1, 27) ? saved_states() : 0;
    const bool ymm = (states & 0x6) == 0x6, zmm = (states & 0xe6) == 0xe6;
    const bool fma = bit(c1, 12), movbe = bit(c1, 22), avx = bit(c1, 28), f16c = bit(c1, 29);
    const bool bmi1 = bit(b7, 3), avx2 = bit(b7, 5), bmi2 = bit(b7, 8);
    found.x86_64_v3 =
        found.x86_64_v2 && ymm && fma && movbe && avx && f16c && bmi1 && avx2 && bmi2;
    found.avx512f = found.x86_64_v3 && zmm && bit(b7, 16);
    found.sha = ssse3 && sse41 && bit(b7, 29);
    return found;
}

}  // namespace
#else
namespace {
CpuFeatures detect() { return {}; }
}  // namespace
#endif

const CpuFeatures &cpu_features() {
    static const CpuFeatures found = detect();
    return found;
}

std::vector<std::string> host_cpu_targets() {
#if defined(__aarch64__)
    return {"cpu-aarch64"};
#else
    std::vector<std::string> targets;
    if (cpu_features().x86_64_v3) targets.push_back("cpu-x86_64-v3");
    if (cpu_features().x86_64_v2) targets.push_back("cpu-x86_64-v2");
    return targets;
#endif
}

}  // namespace tessera::native
