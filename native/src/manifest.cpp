#include "manifest.h"

#include <algorithm>
#include <unordered_set>

#include "checksum.h"
#include "fields.h"
#include "json.h"
#include "limits.h"

namespace tessera::native {

namespace {

constexpr std::string_view kTail = "\"\n}\n";

bool is_digest(std::string_view text) {
    return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

uint64_t size_of(const Field &field) {
    const int64_t value = field.integer();
    if (value < 0) field.fail("a negative size");
    return static_cast<uint64_t>(value);
}

// A member that may be missing or null.
std::optional<Field> given(const Field &row, const char *key) {
    std::optional<Field> found = row.member(key);
    if (found && found->json().is_null()) return std::nullopt;
    return found;
}

std::string digest_of(const Field &field) {
    if (!is_digest(field.string())) field.fail("a malformed digest");
    return field.string();
}

Entry read_entry(const Field &row) {
    Entry entry;
    entry.path = row.required("path").string();
    entry.size = size_of(row.required("size"));
    entry.sha256 = digest_of(row.required("sha256"));
    const std::string compression = row.string_or("compression", "none");
    if (compression != "none" && compression != "deflate") row.fail("unknown compression");
    entry.deflated = compression == "deflate";
    if (const auto field = given(row, "offset")) entry.offset = size_of(*field);
    if (const auto field = given(row, "packed_size")) entry.packed_size = size_of(*field);
    if (const auto field = given(row, "packed_sha256")) entry.packed_sha256 = digest_of(*field);
    return entry;
}

CodeFormat format_of(const Field &field) {
    if (field.string() == "cubin") return CodeFormat::Cubin;
    if (field.string() == "ptx") return CodeFormat::Ptx;
    if (field.string() == "so") return CodeFormat::SharedObject;
    field.fail(text("unknown format ", quoted(field.string())));
}

KernelRow read_kernel(const Field &row) {
    KernelRow kernel;
    kernel.program = row.required("program").string();
    kernel.name = row.required("name").string();
    for_each_item(row.required("kernels"),
                  [&](const Field &name) { kernel.kernels.push_back(name.string()); });
    kernel.target = row.required("target").string();
    kernel.format = format_of(row.required("format"));
    kernel.path = row.required("path").string();
    return kernel;
}

WeightRow read_weight(const Field &row) {
    WeightRow weight;
    weight.name = row.required("name").string();
    weight.dtype = row.required("dtype").dtype();
    for_each_item(row.required("shape"),
                  [&](const Field &size) { weight.shape.push_back(int64_t(size_of(size))); });
    weight.path = row.required("path").string();
    return weight;
}

Manifest decode(const Field &root) {
    Manifest manifest;
    manifest.kind = root.required("kind").string();
    if (manifest.kind != "tsc" && manifest.kind != "tsp" && manifest.kind != "tsd")
        root.fail(text("unknown kind ", quoted(manifest.kind)));
    manifest.name = root.required("name").string();
    manifest.version = root.required("version").string();
    for_each_item(root, "programs", [&](const Field &row) {
        manifest.programs.push_back({row.required("name").string(), row.required("path").string()});
    });
    for_each_item(root, "kernels",
                  [&](const Field &row) { manifest.kernels.push_back(read_kernel(row)); });
    for_each_item(root, "weights",
                  [&](const Field &row) { manifest.weights.push_back(read_weight(row)); });
    if (const auto config = root.member("config"))
        for (const auto &[name, path] : config->object()) {
            if (!path.text()) config->fail("expected paths");
            manifest.config.push_back(*path.text());
        }
    for_each_item(root, "runtime",
                  [&](const Field &path) { manifest.runtime.push_back(path.string()); });
    for_each_item(root, "entries",
                  [&](const Field &row) { manifest.entries.push_back(read_entry(row)); });
    manifest.digest = root.string_or("digest", "");
    return manifest;
}

// Folder and path of every file that the tables name.
std::vector<std::pair<std::string_view, const std::string *>> table_paths(const Manifest &manifest) {
    std::vector<std::pair<std::string_view, const std::string *>> paths;
    for (const ProgramRow &row : manifest.programs) paths.emplace_back("programs/", &row.path);
    for (const KernelRow &row : manifest.kernels) paths.emplace_back("kernels/", &row.path);
    for (const WeightRow &row : manifest.weights) paths.emplace_back("weights/", &row.path);
    for (const std::string &path : manifest.config) paths.emplace_back("config/", &path);
    for (const std::string &path : manifest.runtime) paths.emplace_back("runtime/", &path);
    return paths;
}

void index_entries(Manifest &manifest) {
    if (manifest.entries.size() >= kMaxEntries)
        fail_integrity(kManifest, text(manifest.entries.size(), " entries, more than ", kMaxEntries));
    for (size_t i = 0; i < manifest.entries.size(); ++i) {
        const std::string &path = manifest.entries[i].path;
        if (path == kManifest || !manifest.entry_index.emplace(path, i).second)
            fail_integrity(kManifest, text("entry ", quoted(path), " appears twice"));
    }
}

// Every entry in one row of one table, in the folder of that table.
void check_tables(const Manifest &manifest) {
    std::unordered_set<std::string_view> used;
    for (const auto &[folder, path] : table_paths(manifest)) {
        if (!manifest.entry(*path))
            fail_integrity(kManifest, text("a table names ", quoted(*path), ", which is no entry"));
        if (path->compare(0, folder.size(), folder) != 0)
            fail_integrity(kManifest, text(quoted(*path), " belongs under ", folder));
        if (!used.insert(*path).second)
            fail_integrity(kManifest, text("two rows share the file ", quoted(*path)));
    }
    for (const Entry &entry : manifest.entries)
        if (!used.count(entry.path))
            fail_integrity(kManifest, text("no table names the entry ", quoted(entry.path)));
}

template <class Rows>
void check_unique(const Rows &rows, std::string_view what) {
    std::unordered_set<std::string_view> seen;
    for (const auto &row : rows)
        if (!seen.insert(row.name).second)
            fail_integrity(kManifest, text("the ", what, " ", quoted(row.name), " appears twice"));
}

void check_rows(const Manifest &manifest) {
    check_unique(manifest.programs, "program");
    check_unique(manifest.weights, "weight");
    std::unordered_set<std::string_view> programs;
    for (const ProgramRow &row : manifest.programs) programs.insert(row.name);
    for (const KernelRow &kernel : manifest.kernels)
        if (!programs.count(kernel.program))
            fail_integrity(kManifest, text("kernel ", quoted(kernel.name), " is of no program"));
    for (const WeightRow &weight : manifest.weights) {
        uint64_t bytes = static_cast<uint64_t>(facts(weight.dtype).bytes);
        bool fits = true;
        const bool empty = std::count(weight.shape.begin(), weight.shape.end(), 0) > 0;
        for (int64_t size : weight.shape)
            fits = fits && !__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes);
        const uint64_t stored = manifest.entry(weight.path)->size;
        if (empty ? stored != 0 : !fits || bytes != stored)
            fail_integrity(kManifest, text("weight ", quoted(weight.name),
                                           " has another size than its entry of ", stored, " bytes"));
    }
}

}  // namespace

const Entry *Manifest::entry(const std::string &path) const {
    const auto found = entry_index.find(path);
    return found == entry_index.end() ? nullptr : &entries[found->second];
}

Manifest read_manifest(Bytes document) {
    if (document.size > kMaxManifestBytes)
        fail_integrity(kManifest, text(document.size, " bytes, more than ", kMaxManifestBytes));
    const std::string_view chars = document.chars();
    const size_t tail = 64 + kTail.size();
    const bool ends_right = chars.size() > tail && chars.substr(chars.size() - kTail.size()) == kTail;
    const std::string stated(ends_right ? chars.substr(chars.size() - tail, 64) : "");
    if (!ends_right || sha256(document.part(0, document.size - tail)) != stated)
        fail_integrity(kManifest, "its digest does not fit its contents");
    try {
        const Json json = parse_json(chars);
        const Field root(json);
        const std::string version = root.required("format").string();
        if (!is_version_1(version))
            throw Failure(TESSERA_PACKAGE_ERROR,
                          text(kManifest, ": format version ", quoted(version),
                               " is not 1.x, which this runtime reads"),
                          "use a newer libtessera_rt, or build the package again");
        Manifest manifest = decode(root);
        if (manifest.digest != stated) fail_integrity(kManifest, "its last value is not its digest");
        index_entries(manifest);
        check_tables(manifest);
        check_rows(manifest);
        return manifest;
    } catch (const JsonError &error) {
        fail_integrity(kManifest, error.problem);
    } catch (const FieldError &error) {
        fail_integrity(kManifest, text(error.path, ": ", error.problem));
    }
}

}  // namespace tessera::native
