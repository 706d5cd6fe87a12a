// Program: kernels and the plan to launch them. The same contract as `tessera.program.program`,
// with every name already looked up: ports, buffers and constants are known by index.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "bytes.h"
#include "dim.h"
#include "dtype.h"

namespace tessera::native {

// An input or output.
struct Port {
    std::string name;
    DType dtype = TESSERA_F32;
    std::vector<Dim> shape;
    bool is_scalar = false;
    // Outputs: index of the input whose contents the output starts with, or -1.
    int initial = -1;
};

// A weight, in the package under its name.
struct Constant {
    std::string name;
    DType dtype = TESSERA_F32;
    std::vector<int64_t> shape;
    int64_t bytes = 0;
};

// A range of the arena, or of persistent memory.
struct Buffer {
    std::string name;
    Dim offset_bytes, bytes;
};

enum class Space { Input, Output, Constant, Buffer, Persistent, Null };

struct Pointer {
    Space space = Space::Null;
    // Among the inputs, outputs, constants, `buffers` or `persistent`.
    size_t index = 0;
    Dim offset_bytes;
};

struct Extent {
    Dim value;
    DType dtype = TESSERA_I64;
};

// A fixed number, as the bits that a kernel reads.
struct Immediate {
    uint64_t bits = 0;
};

struct ScalarInput {
    size_t input = 0;
};

using Argument = std::variant<Pointer, Extent, Immediate, ScalarInput>;

struct Launch {
    std::string kernel;
    Dim grid[3];
    int64_t block[3] = {1, 1, 1};
    Dim shared_bytes;
    bool has_cluster = false;
    int64_t cluster[3] = {1, 1, 1};
    std::vector<Argument> args;
};

// `C = op(A) @ op(B)`, row-major and batched.
struct Gemm {
    DType dtype = TESSERA_F32;
    Dim m, n, k;
    Pointer a, b, c;
    bool transpose_a = false, transpose_b = false;
    Dim batch{1};
    Dim stride_a, stride_b, stride_c;  // in elements
};

enum class Comparison { Less, LessEqual, Equal, GreaterEqual, Greater, Divides };

struct Guard {
    Dim lhs, rhs;
    Comparison op = Comparison::Equal;
};

struct Choice;
using Step = std::variant<Launch, Gemm, Choice>;

// Steps that may be taken where every guard holds.
struct Option {
    std::vector<Step> steps;
    std::vector<Guard> guards;
};

// The first option whose guards hold; the last has none.
struct Choice {
    std::vector<Option> options;
};

struct Plan {
    std::vector<std::string> targets;
    std::vector<Step> steps, setup;
    std::vector<Buffer> buffers, persistent;
    Dim arena_bytes;
    int64_t persistent_bytes = 0;

    // Every kernel that the plan may launch, once each.
    std::vector<std::string> kernels() const;
};

struct Program {
    std::string name;
    Symbols symbols;
    std::vector<Port> inputs, outputs;
    std::vector<Constant> constants;
    std::vector<Plan> plans;

    const Plan *plan_for(const std::string &target) const;
    std::vector<std::string> targets() const;
    // `inputs: x: f32(batch, 64), n: i64`.
    std::string describe_inputs() const;
};

// `f32(batch, 64)`; a scalar is its dtype alone.
std::string describe_port(const Port &port, const Symbols &symbols);
// `(batch, 64)`.
std::string describe_shape(const std::vector<Dim> &shape, const Symbols &symbols);
std::string describe_shape(const std::vector<int64_t> &shape);

// The program of a JSON document. Throws a `Failure` that names the field which does not hold together.
Program read_program(Bytes document);

}  // namespace tessera::native
