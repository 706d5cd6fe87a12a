#include "library.h"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

namespace tessera::native {

namespace {

bool write_all(int descriptor, Bytes bytes) {
    while (bytes.size) {
        const ssize_t written = ::write(descriptor, bytes.data, bytes.size);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        bytes = bytes.part(static_cast<size_t>(written), bytes.size - static_cast<size_t>(written));
    }
    return true;
}

std::string loader_error() {
    const char *problem = ::dlerror();
    return problem ? problem : "unknown error";
}

}  // namespace

KernelLibrary::KernelLibrary(Bytes code, std::string name) : name_(std::move(name)) {
    if (!open_in_memory(code)) open_in_file(code);
}

KernelLibrary::~KernelLibrary() {
    if (handle_) ::dlclose(handle_);
    if (descriptor_ >= 0) ::close(descriptor_);
}

bool KernelLibrary::open_in_memory(Bytes code) {
#if defined(SYS_memfd_create)
    // The system call: glibc has its wrapper since 2.27 only. 1 is MFD_CLOEXEC.
    const int descriptor = static_cast<int>(::syscall(SYS_memfd_create, "tessera-kernels", 1u));
    if (descriptor < 0) return false;
    if (write_all(descriptor, code))
        handle_ = ::dlopen(text("/proc/self/fd/", descriptor).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle_) {
        ::close(descriptor);
        return false;
    }
    // The loader knows a library by its path, and would take the next one with this number for
    // the same: the descriptor stays ours for as long as the library is.
    descriptor_ = descriptor;
    return true;
#else
    (void)code;
    return false;
#endif
}

void KernelLibrary::open_in_file(Bytes code) {
    const char *folder = std::getenv("TMPDIR");
    std::string path = std::string(folder && *folder ? folder : "/tmp") + "/tessera-XXXXXX";
    const int descriptor = ::mkstemp(path.data());
    if (descriptor < 0)
        throw Failure(TESSERA_DEVICE_ERROR,
                      text(name_, ": no file for it at ", path, ": ",
                           std::generic_category().message(errno)),
                      "set TMPDIR to a folder that can be written");
    const bool written = write_all(descriptor, code);
    ::close(descriptor);
    if (written) handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    const std::string problem = written ? (handle_ ? "" : loader_error()) : "the disk is full";
    ::unlink(path.c_str());
    if (!handle_)
        throw Failure(TESSERA_DEVICE_ERROR, text(name_, " cannot be loaded: ", problem),
                      "compile the package again on this machine, or for its architecture");
}

CpuKernel KernelLibrary::kernel(const std::string &name) const {
    void *found = ::dlsym(handle_, name.c_str());
    if (!found)
        throw Failure(TESSERA_DEVICE_ERROR, text(name_, " has no kernel ", quoted(name)),
                      "compile the program again");
    return reinterpret_cast<CpuKernel>(found);
}

}  // namespace tessera::native
