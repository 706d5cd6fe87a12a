// Shared libraries: of this machine by name, and CPU kernels out of a package's bytes.
#pragma once

#include <memory>
#include <string>

#include "bytes.h"

namespace tessera::native {

// `void name(void *const *args, int64_t begin, int64_t end)`.
using CpuKernel = void (*)(void *const *, int64_t, int64_t);

// A library of CPU kernels, loaded from memory; it touches a disk only where the system wants that.
class KernelLibrary {
public:
    // `name` is what to call it in errors.
    KernelLibrary(Bytes code, std::string name);
    ~KernelLibrary();
    KernelLibrary(const KernelLibrary &) = delete;
    KernelLibrary &operator=(const KernelLibrary &) = delete;

    CpuKernel kernel(const std::string &name) const;

private:
    bool open_in_memory(Bytes code);
    void open_in_file(Bytes code);

    std::string name_;
    void *handle_ = nullptr;
    int descriptor_ = -1;
};

}  // namespace tessera::native
