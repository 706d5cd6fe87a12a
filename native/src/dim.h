// Symbolic integers: sizes that are known only when a program runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "json.h"

namespace tessera::native {

// The symbols that the inputs of one program give a value, in the order of their values.
using Symbols = std::vector<std::string>;

// An integer expression over symbols, as `tessera.program.dim` writes it: a number, a symbol's
// name, or `[op, a, b]` with add, mul, floordiv, ceildiv, mod, min, max.
class Dim {
public:
    Dim() : Dim(0) {}
    explicit Dim(int64_t value) : steps_{{Op::Number, value}} {}

    // Throws std::string-carrying `DimError` where `data` is no expression over `symbols`.
    static Dim from_json(const Json &data, const Symbols &symbols);

    // The number under `values`, one for each of `symbols`.
    // Throws `Failure` for a divisor that is not positive or a number beyond 64 bits.
    int64_t evaluate(const std::vector<int64_t> &values) const;

    bool is_number() const { return steps_.size() == 1 && steps_[0].op == Op::Number; }
    // The number of a Dim that is one.
    int64_t number() const { return steps_[0].value; }
    // Index of the symbol, if the Dim is a bare one; else -1.
    int symbol() const;
    // As a person writes it: `3*n + cdiv(m, 256)`.
    std::string describe(const Symbols &symbols) const;

private:
    enum class Op : uint8_t { Number, Symbol, Add, Mul, FloorDiv, CeilDiv, Mod, Min, Max };

    // Reverse Polish: operands first. `value` is a number or a symbol's index.
    struct Step {
        Op op;
        int64_t value;
    };

    static void append(const Json &data, const Symbols &symbols, int depth, std::vector<Step> &steps);
    static int64_t apply(Op op, int64_t a, int64_t b);

    std::vector<Step> steps_;
};

struct DimError {
    std::string problem;
};

// Whether `name` may be a symbol: `[A-Za-z_][A-Za-z0-9_]*`.
bool is_symbol(std::string_view name);

}  // namespace tessera::native
