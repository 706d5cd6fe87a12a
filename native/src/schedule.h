// A plan with every size known: what one shape of the inputs makes of it.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "program.h"

namespace tessera::native {

enum class Base { Input, Output, Constant, Arena, Persistent, Null };

// A place in memory, relative to something whose address is known when a call is made.
struct Address {
    Base base = Base::Null;
    size_t index = 0;  // of the input, output or constant
    int64_t offset_bytes = 0;
};

// One argument of a kernel: where something lies, the bits of a number, or a scalar input's index.
struct Number {
    uint64_t bits = 0;
};
using CallArgument = std::variant<Address, Number, ScalarInput>;

struct LaunchCall {
    const Launch *launch = nullptr;  // block, cluster, name
    int64_t grid[3] = {1, 1, 1};
    int64_t shared_bytes = 0;
    std::vector<CallArgument> args;

    // Work items on a CPU.
    int64_t items() const { return grid[0] * grid[1] * grid[2]; }
};

// `c = a @ b`. A product over nothing (k = 0) is zero.
struct GemmCall {
    DType dtype = TESSERA_F32;
    int64_t m = 0, n = 0, k = 0, batch = 1;
    bool transpose_a = false, transpose_b = false;
    Address a, b, c;
    int64_t stride_a = 0, stride_b = 0, stride_c = 0;  // in elements
};

using Call = std::variant<LaunchCall, GemmCall>;

struct Schedule {
    std::vector<Call> calls;
    int64_t arena_bytes = 0;
    std::vector<std::vector<int64_t>> output_shapes;
};

// The schedule of `plan.steps` under those values of the symbols; of `plan.setup`.
// Both refer to `plan`, and throw a `Failure` where a size does not fit or memory is left.
Schedule make_schedule(const Program &program, const Plan &plan, const std::vector<int64_t> &values);
Schedule make_setup(const Program &program, const Plan &plan);

}  // namespace tessera::native
