// Reads an unpacked package: the same files in a folder, with the same manifest.
#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <system_error>

#include "file_map.h"
#include "limits.h"
#include "names.h"
#include "source.h"

namespace tessera::native {

namespace {

using Sizes = std::map<std::string, uint64_t>;

[[noreturn]] void unreadable(const std::string &path) {
    throw Failure(TESSERA_PACKAGE_ERROR,
                  text("cannot read ", path, ": ", std::generic_category().message(errno)),
                  "ls -l " + path);
}

// Size of every regular file under `root`, by its path in the package.
class Walk {
public:
    explicit Walk(std::string root) : root_(std::move(root)) {
        std::vector<std::string> folders = {""};
        while (!folders.empty()) {
            const std::string folder = std::move(folders.back());
            folders.pop_back();
            read(folder, folders);
        }
    }

    Sizes sizes;

private:
    void read(const std::string &folder, std::vector<std::string> &folders) {
        const std::string where = root_ + "/" + folder;
        std::unique_ptr<DIR, int (*)(DIR *)> stream(::opendir(where.c_str()), ::closedir);
        if (!stream) unreadable(where);
        errno = 0;
        while (const dirent *item = ::readdir(stream.get())) {
            const std::string name = item->d_name;
            if (name != "." && name != "..") add(folder.empty() ? name : folder + "/" + name, folders);
            errno = 0;
        }
        if (errno) unreadable(where);
    }

    void add(const std::string &name, std::vector<std::string> &folders) {
        struct stat status {};
        if (::lstat((root_ + "/" + name).c_str(), &status) != 0) unreadable(root_ + "/" + name);
        if (S_ISDIR(status.st_mode))
            folders.push_back(name);
        else if (S_ISREG(status.st_mode))
            sizes[name] = static_cast<uint64_t>(status.st_size);
        else
            fail_integrity(name, "is a symbolic link or a special file, not a regular one");
        if (sizes.size() + folders.size() > kMaxEntries)
            fail_integrity(root_, text("more than ", kMaxEntries, " files"));
    }

    std::string root_;
};

class Folder : public Source {
public:
    explicit Folder(const std::string &path) : root_(path) {
        // The manifest first: what is no package at all should say so, not name a stray file.
        const std::string manifest = root_ + "/" + kManifest;
        struct stat status {};
        if (::lstat(manifest.c_str(), &status) != 0)
            fail_integrity(root_, text("the folder has no ", kManifest));
        const Content document = map_file(manifest, kManifest, kMaxManifestBytes, false);
        manifest_ = read_manifest(document.bytes);
        check_files(Walk(root_).sizes);
    }

    Content content(const Entry &entry) const override {
        Content found = map_file(root_ + "/" + entry.path, entry.path, entry.size, false);
        if (found.bytes.size != entry.size)
            fail_integrity(entry.path, text(found.bytes.size, " bytes, the manifest says ", entry.size));
        return found;
    }

    void check_crc(const Entry &, Bytes) const override {}

private:
    void check_files(const Sizes &sizes) const {
        std::vector<std::string> names;
        uint64_t total = 0;
        for (const auto &[name, size] : sizes) {
            names.push_back(name);
            total += std::min(size, kMaxTotalBytes);
        }
        check_names(names);
        for (const std::string &name : names)
            if (name != kManifest && name != kSignature && !manifest_.entry(name))
                fail_integrity(name, "is not in the manifest");
        const auto signature = sizes.find(kSignature);
        if (signature != sizes.end() && signature->second > kMaxSignatureBytes)
            fail_integrity(kSignature, text(signature->second, " bytes, more than ", kMaxSignatureBytes));
        for (const Entry &entry : manifest_.entries) {
            const auto found = sizes.find(entry.path);
            if (found == sizes.end())
                fail_integrity(entry.path, "is in the manifest, but not in the folder");
            if (found->second != entry.size)
                fail_integrity(entry.path,
                               text(found->second, " bytes, the manifest says ", entry.size));
        }
        if (total > kMaxTotalBytes) fail_integrity(root_, text("more than ", kMaxTotalBytes, " bytes"));
    }

    std::string root_;
};

}  // namespace

std::unique_ptr<Source> open_folder(const std::string &path) { return std::make_unique<Folder>(path); }

}  // namespace tessera::native
