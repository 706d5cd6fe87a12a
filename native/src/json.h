// JSON that means one thing: bounded, valid UTF-8, without duplicate keys. Source: RFC 8259.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tessera::native {

class Json {
public:
    using List = std::vector<Json>;
    using Object = std::vector<std::pair<std::string, Json>>;

    Json() = default;
    template <class T>
    explicit Json(T value) : value_(std::move(value)) {}

    bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
    // Each of these is null if the value is of another kind.
    const bool *boolean() const { return std::get_if<bool>(&value_); }
    const int64_t *integer() const { return std::get_if<int64_t>(&value_); }
    const double *real() const { return std::get_if<double>(&value_); }
    const std::string *text() const { return std::get_if<std::string>(&value_); }
    const List *list() const { return std::get_if<List>(&value_); }
    const Object *object() const { return std::get_if<Object>(&value_); }

    // The member called `key` of an object, if this is one and has it.
    const Json *find(std::string_view key) const;

private:
    std::variant<std::monostate, bool, int64_t, double, std::string, List, Object> value_;
};

// The value of a whole document. An integer beyond 64 bits becomes a double.
// Throws std::string-carrying `JsonError` where it is no strict JSON.
struct JsonError {
    std::string problem;
};
Json parse_json(std::string_view document);

}  // namespace tessera::native
