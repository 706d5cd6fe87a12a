#include "fields.h"

#include "failure.h"

namespace tessera::native {

std::optional<Field> Field::member(const char *key) const {
    if (!value_.object()) fail("expected an object");
    const Json *found = value_.find(key);
    if (!found) return std::nullopt;
    return Field(*found, this, key, 0);
}

Field Field::required(const char *key) const {
    std::optional<Field> found = member(key);
    if (!found) fail(text("the field ", quoted(key), " is missing"));
    return *found;
}

const Json::List &Field::list() const {
    if (!value_.list()) fail("expected a list");
    return *value_.list();
}

const Json::Object &Field::object() const {
    if (!value_.object()) fail("expected an object");
    return *value_.object();
}

const std::string &Field::string() const {
    if (!value_.text()) fail("expected a string");
    return *value_.text();
}

int64_t Field::integer() const {
    if (!value_.integer()) fail("expected an integer of at most 64 bits");
    return *value_.integer();
}

bool Field::boolean() const {
    if (!value_.boolean()) fail("expected true or false");
    return *value_.boolean();
}

DType Field::dtype() const {
    const std::optional<DType> found = dtype_called(string());
    if (!found) fail(text("unknown dtype ", quoted(string())));
    return *found;
}

std::string Field::string_or(const char *key, std::string_view otherwise) const {
    const std::optional<Field> found = member(key);
    return found ? found->string() : std::string(otherwise);
}

int64_t Field::integer_or(const char *key, int64_t otherwise) const {
    const std::optional<Field> found = member(key);
    return found ? found->integer() : otherwise;
}

bool Field::boolean_or(const char *key, bool otherwise) const {
    const std::optional<Field> found = member(key);
    return found ? found->boolean() : otherwise;
}

std::string Field::path() const {
    std::string out;
    write_path(out);
    return out.empty() ? "document" : out;
}

void Field::write_path(std::string &out) const {
    if (!parent_) return;
    parent_->write_path(out);
    if (!key_)
        out += text("[", index_, "]");
    else
        out += (out.empty() ? "" : ".") + std::string(key_);
}

bool is_version_1(std::string_view version) {
    const size_t dot = version.find('.');
    if (dot == std::string_view::npos) return false;
    const auto number = [](std::string_view part) {
        return !part.empty() && part.size() <= 6 &&
               part.find_first_not_of("0123456789") == std::string_view::npos;
    };
    const std::string_view major = version.substr(0, dot), minor = version.substr(dot + 1);
    return number(major) && number(minor) &&
           major.find_first_not_of('0') == major.size() - 1 && major.back() == '1';
}

}  // namespace tessera::native
