#include "dim.h"

#include <algorithm>
#include <array>

#include "bytes.h"
#include "failure.h"

namespace tessera::native {

namespace {

constexpr int kMaxDepth = 64;
// As many steps as one evaluation may take: a document can be large, a size is not.
constexpr size_t kMaxSteps = 1 << 16;

constexpr std::array<std::string_view, 9> kNames = {"",         "",    "add", "mul", "floordiv",
                                                    "ceildiv", "mod", "min", "max"};

}  // namespace

bool is_symbol(std::string_view name) {
    const auto letter = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    return !name.empty() && letter(name[0]) && std::all_of(name.begin(), name.end(), [&](char c) {
        return letter(c) || (c >= '0' && c <= '9');
    });
}

Dim Dim::from_json(const Json &data, const Symbols &symbols) {
    Dim dim;
    dim.steps_.clear();
    append(data, symbols, 0, dim.steps_);
    return dim;
}

void Dim::append(const Json &data, const Symbols &symbols, int depth, std::vector<Step> &steps) {
    if (steps.size() >= kMaxSteps) throw DimError{"a size expression that is too long"};
    if (const int64_t *number = data.integer()) return steps.push_back({Op::Number, *number});
    if (const std::string *name = data.text(); name && is_symbol(*name)) {
        const auto found = std::find(symbols.begin(), symbols.end(), *name);
        if (found == symbols.end())
            throw DimError{text("no input gives the symbol ", quoted(*name), " a value")};
        return steps.push_back({Op::Symbol, found - symbols.begin()});
    }
    const Json::List *call = data.list();
    if (!call || call->size() != 3 || depth >= kMaxDepth || !(*call)[0].text())
        throw DimError{"not a size expression"};
    const auto op = std::find(kNames.begin() + 2, kNames.end(), *(*call)[0].text());
    if (op == kNames.end()) throw DimError{text("unknown operation ", quoted(*(*call)[0].text()))};
    append((*call)[1], symbols, depth + 1, steps);
    append((*call)[2], symbols, depth + 1, steps);
    steps.push_back({static_cast<Op>(op - kNames.begin()), 0});
}

int Dim::symbol() const {
    return steps_.size() == 1 && steps_[0].op == Op::Symbol ? static_cast<int>(steps_[0].value) : -1;
}

int64_t Dim::apply(Op op, int64_t a, int64_t b) {
    switch (op) {
        case Op::Add: return add_sizes(a, b);
        case Op::Mul: return multiply_sizes(a, b);
        case Op::Min: return std::min(a, b);
        case Op::Max: return std::max(a, b);
        default: break;
    }
    if (b <= 0)
        throw Failure(TESSERA_INPUT_ERROR, text(kNames[static_cast<size_t>(op)], " by ", b,
                                                ": a size must be divided by a positive number"));
    const int64_t quotient = a / b, rest = a % b;
    if (op == Op::CeilDiv) return quotient + (rest > 0);
    if (op == Op::FloorDiv) return quotient - (rest < 0);
    return rest < 0 ? rest + b : rest;
}

int64_t Dim::evaluate(const std::vector<int64_t> &values) const {
    if (is_number()) return number();
    std::vector<int64_t> stack;
    stack.reserve(steps_.size());
    for (const Step &step : steps_) {
        if (step.op == Op::Number) {
            stack.push_back(step.value);
        } else if (step.op == Op::Symbol) {
            stack.push_back(values[static_cast<size_t>(step.value)]);
        } else {
            const int64_t right = stack.back();
            stack.pop_back();
            stack.back() = apply(step.op, stack.back(), right);
        }
    }
    return stack.back();
}

std::string Dim::describe(const Symbols &symbols) const {
    std::vector<std::string> stack;
    for (const Step &step : steps_) {
        if (step.op == Op::Number || step.op == Op::Symbol) {
            stack.push_back(step.op == Op::Number ? text(step.value)
                                                  : symbols[static_cast<size_t>(step.value)]);
            continue;
        }
        const std::string right = std::move(stack.back());
        stack.pop_back();
        std::string &left = stack.back();
        switch (step.op) {
            case Op::Add: left = text(left, " + ", right); break;
            case Op::Mul: left = text(right, "*", left); break;
            case Op::FloorDiv: left = text("((", left, ") // (", right, "))"); break;
            case Op::Mod: left = text("((", left, ") % (", right, "))"); break;
            case Op::CeilDiv: left = text("cdiv(", left, ", ", right, ")"); break;
            case Op::Min: left = text("min(", left, ", ", right, ")"); break;
            default: left = text("max(", left, ", ", right, ")"); break;
        }
    }
    return stack.back();
}

}  // namespace tessera::native
