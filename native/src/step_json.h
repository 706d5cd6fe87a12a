// Reads the steps of a plan, and looks up every name they use.
#pragma once

#include <array>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fields.h"
#include "program.h"

namespace tessera::native {

// The expression in `field` over `symbols`.
Dim read_dim(const Field &field, const Symbols &symbols);
// The same for member `key`; 0 where it is missing.
Dim read_dim(const Field &row, const char *key, const Symbols &symbols);

// What the steps of one list may refer to.
class StepScope {
public:
    // `at_load`: the steps of `setup`, which see constants and persistent memory alone.
    StepScope(const Program &program, const Plan &plan, bool at_load);

    std::vector<Step> read(const Field &steps) const;

private:
    using Names = std::unordered_map<std::string_view, size_t>;

    Step read_step(const Field &row) const;
    Launch read_launch(const Field &row) const;
    Gemm read_gemm(const Field &row) const;
    Choice read_choice(const Field &row) const;
    Guard read_guard(const Field &row) const;
    Pointer read_pointer(const Field &row) const;
    Argument read_argument(const Field &row) const;

    Symbols symbols_;
    bool for_cpu_;
    std::array<Names, 6> spaces_;  // by Space
    Names scalars_;
};

}  // namespace tessera::native
