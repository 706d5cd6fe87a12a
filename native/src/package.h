// A package: programs with their kernels and weights. Nothing is handed out before it is hashed.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "manifest.h"
#include "program.h"
#include "source.h"

namespace tessera::native {

class Package {
public:
    // The package in a file or an unpacked folder; its programs are read.
    explicit Package(const std::string &path);

    const Manifest &manifest() const { return source_->manifest(); }
    const std::vector<Program> &programs() const { return programs_; }

    // The program called `name`; null or empty: the only one, or the one called `forward`.
    const Program &program(const char *name) const;

    // Where the code of entry `kernel` of `program` for `target` is; null if nowhere.
    const KernelRow *kernel(const std::string &program, const std::string &kernel,
                            const std::string &target, CodeFormat format) const;
    // The binary of a row, verified.
    Content code(const KernelRow &row) const { return verified(row.path); }

    // A weight, verified once, mapped unless it is stored compressed. It must be what `constant` says.
    Content weight(const Constant &constant) const;

    // Check every byte against its digest. Throws a `Failure` that names the entry.
    void verify() const;

private:
    Content verified(const std::string &path) const;
    void read_programs();
    void check_weight_rows() const;
    std::string program_listing() const;

    std::unique_ptr<Source> source_;
    std::vector<Program> programs_;
    std::unordered_map<std::string, size_t> weight_index_;
    mutable std::mutex lock_;
    mutable std::unordered_map<std::string, Content> weights_;
};

}  // namespace tessera::native
