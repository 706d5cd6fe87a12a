// Files in memory without reading them first.
#pragma once

#include <cstdint>
#include <string>

#include "bytes.h"

namespace tessera::native {

// The bytes of the regular file at `path`, mapped read-only, at most `most` of them and one more.
// `what` names it in errors; `follow` says whether the file itself may be a symbolic link.
Content map_file(const std::string &path, const std::string &what, uint64_t most, bool follow);

}  // namespace tessera::native
