#include "package.h"

#include <sys/stat.h>

#include <algorithm>

#include "checksum.h"
#include "json.h"
#include "limits.h"

namespace tessera::native {

namespace {

constexpr const char *kDefaultProgram = "forward";

bool is_folder(const std::string &path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

}  // namespace

Package::Package(const std::string &path)
    : source_(is_folder(path) ? open_folder(path) : open_container(path)) {
    for (size_t i = 0; i < manifest().weights.size(); ++i)
        weight_index_.emplace(manifest().weights[i].name, i);
    read_programs();
    check_weight_rows();
}

void Package::read_programs() {
    for (const ProgramRow &row : manifest().programs) {
        const Entry &entry = *manifest().entry(row.path);
        if (entry.size > kMaxDocumentBytes)
            fail_integrity(row.path, text(entry.size, " bytes, more than ", kMaxDocumentBytes));
        const Content document = verified(row.path);
        try {
            programs_.push_back(read_program(document.bytes));
        } catch (const Failure &failure) {
            throw Failure(failure.status, text(row.path, ": ", failure.message), failure.hint);
        }
        if (programs_.back().name != row.name)
            throw Failure(TESSERA_PACKAGE_ERROR,
                          text(row.path, ": is program ", quoted(programs_.back().name),
                               ", the manifest says ", quoted(row.name)));
    }
}

void Package::check_weight_rows() const {
    for (const Program &program : programs_)
        for (const Constant &constant : program.constants) {
            const auto found = weight_index_.find(constant.name);
            if (found == weight_index_.end()) continue;
            const WeightRow &row = manifest().weights[found->second];
            if (row.shape != constant.shape || !same_layout(row.dtype, constant.dtype))
                throw Failure(TESSERA_PACKAGE_ERROR,
                              text("weight ", quoted(row.name), " is ", facts(row.dtype).name,
                                   describe_shape(row.shape), ", but program ", quoted(program.name),
                                   " takes ", facts(constant.dtype).name, describe_shape(constant.shape)),
                              "build the package again from one compilation");
        }
}

const Program &Package::program(const char *name) const {
    if (name && *name) {
        for (const Program &program : programs_)
            if (program.name == name) return program;
        throw Failure(TESSERA_INPUT_ERROR, text("there is no program called ", quoted(name)),
                      program_listing());
    }
    if (programs_.size() == 1) return programs_.front();
    for (const Program &program : programs_)
        if (program.name == kDefaultProgram) return program;
    throw Failure(TESSERA_INPUT_ERROR,
                  text("there are ", programs_.size(), " programs: say which one to execute"),
                  program_listing());
}

std::string Package::program_listing() const {
    std::string out = "programs: ";
    for (size_t i = 0; i < programs_.size(); ++i) out += (i ? ", " : "") + programs_[i].name;
    return programs_.empty() ? "the package holds no program" : out;
}

const KernelRow *Package::kernel(const std::string &program, const std::string &kernel,
                                 const std::string &target, CodeFormat format) const {
    for (const KernelRow &row : manifest().kernels)
        if (row.program == program && row.target == target && row.format == format &&
            std::find(row.kernels.begin(), row.kernels.end(), kernel) != row.kernels.end())
            return &row;
    return nullptr;
}

Content Package::weight(const Constant &constant) const {
    const std::lock_guard<std::mutex> guard(lock_);
    const auto known = weights_.find(constant.name);
    if (known != weights_.end()) return known->second;
    const auto found = weight_index_.find(constant.name);
    if (found == weight_index_.end())
        throw Failure(TESSERA_PACKAGE_ERROR,
                      text("package ", quoted(manifest().name), " has no weight ", quoted(constant.name)),
                      "build it with its weights: include_weights=True, or PackageBuilder.add_weights");
    const Content content = verified(manifest().weights[found->second].path);
    weights_.emplace(constant.name, content);
    return content;
}

Content Package::verified(const std::string &path) const {
    const Entry &entry = *manifest().entry(path);
    Content content = source_->content(entry);
    if (sha256(content.bytes) != entry.sha256)
        fail_integrity(path, "its sha256 is not what the manifest says");
    return content;
}

void Package::verify() const {
    for (const Entry &entry : manifest().entries)
        source_->check_crc(entry, verified(entry.path).bytes);
    for (const std::string &path : manifest().config) {
        try {
            if (!parse_json(verified(path).bytes.chars()).object())
                fail_integrity(path, "is not a JSON object");
        } catch (const JsonError &error) {
            fail_integrity(path, error.problem);
        }
    }
}

}  // namespace tessera::native
