#include "file_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace tessera::native {

namespace {

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(const Descriptor &) = delete;
    Descriptor &operator=(const Descriptor &) = delete;
    int get() const { return fd_; }

private:
    int fd_;
};

[[noreturn]] void unreadable(const std::string &path) {
    throw Failure(TESSERA_PACKAGE_ERROR,
                  text("cannot read ", path, ": ", std::generic_category().message(errno)),
                  "ls -l " + path);
}

}  // namespace

Content map_file(const std::string &path, const std::string &what, uint64_t most, bool follow) {
    // Not blocking: a named pipe in the place of a file would wait for ever.
    const int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW);
    const Descriptor file(::open(path.c_str(), flags));
    if (file.get() < 0) unreadable(path);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) unreadable(path);
    if (!S_ISREG(status.st_mode)) fail_integrity(what, path + " is not a regular file");
    const auto size = static_cast<size_t>(
        std::min(static_cast<uint64_t>(status.st_size), most == UINT64_MAX ? most : most + 1));
    // Nothing cannot be mapped.
    if (size == 0) return {};
    void *start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (start == MAP_FAILED) unreadable(path);
    return {{static_cast<const uint8_t *>(start), size},
            std::shared_ptr<const void>(start, [start, size](const void *) { ::munmap(start, size); })};
}

}  // namespace tessera::native
