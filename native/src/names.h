// Names of entries: plain relative paths that mean one file on every file system.
#pragma once

#include <string>
#include <vector>

namespace tessera::native {

// Refuse names that are unsafe, appear twice, differ only in case, or are a folder of another.
// Throws an integrity `Failure` that says how.
void check_names(const std::vector<std::string> &names);

}  // namespace tessera::native
