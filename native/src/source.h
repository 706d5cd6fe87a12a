// Where a package's files lie: in a container, or in a folder. Contents are untrusted until hashed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "bytes.h"
#include "manifest.h"

namespace tessera::native {

class Source {
public:
    virtual ~Source() = default;

    // Consistent with the files that are there.
    const Manifest &manifest() const { return manifest_; }

    // The content of an entry, of the stated size; mapped where possible.
    virtual Content content(const Entry &entry) const = 0;

    // What the container says of its CRC-32 must fit the content; a folder says nothing.
    virtual void check_crc(const Entry &entry, Bytes content) const = 0;

protected:
    Manifest manifest_;
};

// Each throws a `Failure` unless everything outside contents is as a writer would have put it.
std::unique_ptr<Source> open_container(const std::string &path);
std::unique_ptr<Source> open_folder(const std::string &path);

}  // namespace tessera::native
