// Reads JSON documents field by field; an error names the field: `plans[0].steps[3].grid: ...`.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "dtype.h"
#include "json.h"

namespace tessera::native {

// What is wrong with a document, and in which of its fields.
struct FieldError {
    std::string path;
    std::string problem;
};

// One value of a document and the way to it. Lives no longer than the `Field` it came from.
class Field {
public:
    explicit Field(const Json &root) : value_(root) {}

    // The member `key` of an object; null or an error where there is none.
    std::optional<Field> member(const char *key) const;
    Field required(const char *key) const;

    const Json &json() const { return value_; }
    const Json::List &list() const;
    const Json::Object &object() const;
    // The `index`-th item of a list.
    Field item(size_t index) const { return Field((*value_.list())[index], this, nullptr, index); }

    const std::string &string() const;
    int64_t integer() const;
    bool boolean() const;
    DType dtype() const;

    // As `required(key)` with a default where the member is missing.
    std::string string_or(const char *key, std::string_view otherwise) const;
    int64_t integer_or(const char *key, int64_t otherwise) const;
    bool boolean_or(const char *key, bool otherwise) const;

    // `plans[0].steps`; "document" for the root.
    std::string path() const;
    [[noreturn]] void fail(std::string problem) const { throw FieldError{path(), std::move(problem)}; }

private:
    Field(const Json &value, const Field *parent, const char *key, size_t index)
        : value_(value), parent_(parent), key_(key), index_(index) {}

    void write_path(std::string &out) const;

    const Json &value_;
    const Field *parent_ = nullptr;
    const char *key_ = nullptr;
    size_t index_ = 0;
};

// Call `each(item)` for every item of a list.
template <class Each>
void for_each_item(const Field &list, Each each) {
    const size_t count = list.list().size();
    for (size_t i = 0; i < count; ++i) each(list.item(i));
}

// The same for the list in member `key`, if there is one.
template <class Each>
void for_each_item(const Field &parent, const char *key, Each each) {
    if (const std::optional<Field> list = parent.member(key)) for_each_item(*list, each);
}

// Whether `version` is `1.x`: at most six digits each.
bool is_version_1(std::string_view version);

}  // namespace tessera::native
