#include "step_json.h"

#include <cmath>

#include "arch.h"

namespace tessera::native {

namespace {

constexpr int64_t kMaxBlockThreads = 1024;

constexpr std::array<std::string_view, 6> kSpaces = {"input",  "output",     "constant",
                                                     "buffer", "persistent", "null"};
constexpr std::array<std::string_view, 6> kComparisons = {"<", "<=", "==", ">=", ">", "divides"};

// The three items of a list that must have so many.
template <class Item, class Read>
void read_three(const Field &list, Item (&out)[3], Read read) {
    if (list.list().size() != 3) list.fail("expected three items");
    for (size_t i = 0; i < 3; ++i) out[i] = read(list.item(i));
}

int64_t positive(const Field &field) {
    if (field.integer() < 1) field.fail("must be 1 or more");
    return field.integer();
}

// A number as the bits that a kernel reads for `dtype`.
Immediate read_immediate(const Field &row) {
    const Field value = row.required("value");
    const DType dtype = row.required("dtype").dtype();
    const DTypeFacts &type = facts(dtype);
    const Json &json = value.json();
    if (!json.boolean() && !json.integer() && !json.real()) value.fail("expected a number");
    if (type.is_float) {
        const double number = json.boolean()   ? (*json.boolean() ? 1.0 : 0.0)
                              : json.integer() ? static_cast<double>(*json.integer())
                                               : *json.real();
        return {encode_float(number, dtype)};
    }
    int64_t number = 0;
    if (json.real()) {
        // 2**63 is the first double beyond the range.
        if (!(std::fabs(*json.real()) < 9223372036854775808.0))
            value.fail(text("does not fit ", type.name));
        number = static_cast<int64_t>(*json.real());
    } else {
        number = json.boolean() ? *json.boolean() : *json.integer();
    }
    if (dtype == TESSERA_BOOL) number = number != 0;
    if (number < type.least || number > type.most) value.fail(text("does not fit ", type.name));
    return {static_cast<uint64_t>(number)};
}

}  // namespace

Dim read_dim(const Field &field, const Symbols &symbols) {
    try {
        return Dim::from_json(field.json(), symbols);
    } catch (const DimError &error) {
        field.fail(error.problem);
    }
}

Dim read_dim(const Field &row, const char *key, const Symbols &symbols) {
    const std::optional<Field> field = row.member(key);
    return field ? read_dim(*field, symbols) : Dim();
}

StepScope::StepScope(const Program &program, const Plan &plan, bool at_load)
    : for_cpu_(is_cpu_target(plan.targets.front())) {
    const auto index = [&](Space space, const auto &items) {
        Names &names = spaces_[static_cast<size_t>(space)];
        for (size_t i = 0; i < items.size(); ++i) names.emplace(items[i].name, i);
    };
    index(Space::Constant, program.constants);
    index(Space::Persistent, plan.persistent);
    spaces_[static_cast<size_t>(Space::Null)].emplace("", 0);
    if (at_load) return;
    symbols_ = program.symbols;
    for (size_t i = 0; i < program.inputs.size(); ++i) {
        const Port &port = program.inputs[i];
        (port.is_scalar ? scalars_ : spaces_[static_cast<size_t>(Space::Input)]).emplace(port.name, i);
    }
    index(Space::Output, program.outputs);
    index(Space::Buffer, plan.buffers);
}

std::vector<Step> StepScope::read(const Field &steps) const {
    std::vector<Step> found;
    for_each_item(steps, [&](const Field &row) { found.push_back(read_step(row)); });
    return found;
}

Step StepScope::read_step(const Field &row) const {
    const Field type = row.required("type");
    if (type.string() == "launch") return read_launch(row);
    if (type.string() == "gemm") return read_gemm(row);
    if (type.string() == "choice") return read_choice(row);
    type.fail(text("unknown step ", quoted(type.string())));
}

Launch StepScope::read_launch(const Field &row) const {
    Launch launch;
    const Field kernel = row.required("kernel");
    launch.kernel = kernel.string();
    if (launch.kernel.empty()) kernel.fail("is empty");
    read_three(row.required("grid"), launch.grid,
               [&](const Field &dim) { return read_dim(dim, symbols_); });
    if (const auto block = row.member("block")) {
        read_three(*block, launch.block, positive);
        const int64_t most = for_cpu_ ? 1 : kMaxBlockThreads;
        int64_t threads = 1;
        for (int64_t size : launch.block)
            if (size > most || (threads *= size) > most)
                block->fail(text("more than ", most, " threads"));
    }
    launch.shared_bytes = read_dim(row, "shared_bytes", symbols_);
    if (const auto cluster = row.member("cluster"); cluster && !cluster->json().is_null()) {
        launch.has_cluster = true;
        read_three(*cluster, launch.cluster, positive);
        for (int64_t size : launch.cluster)
            if (size > kMaxBlockThreads) cluster->fail("too many blocks");
    }
    for_each_item(row, "args", [&](const Field &arg) { launch.args.push_back(read_argument(arg)); });
    return launch;
}

Gemm StepScope::read_gemm(const Field &row) const {
    Gemm gemm;
    const Field dtype = row.required("dtype");
    gemm.dtype = dtype.dtype();
    if (gemm.dtype != TESSERA_F32 && gemm.dtype != TESSERA_F64) dtype.fail("a gemm is f32 or f64");
    gemm.m = read_dim(row.required("m"), symbols_);
    gemm.n = read_dim(row.required("n"), symbols_);
    gemm.k = read_dim(row.required("k"), symbols_);
    gemm.a = read_pointer(row.required("a"));
    gemm.b = read_pointer(row.required("b"));
    gemm.c = read_pointer(row.required("c"));
    gemm.transpose_a = row.boolean_or("transpose_a", false);
    gemm.transpose_b = row.boolean_or("transpose_b", false);
    if (const auto batch = row.member("batch")) gemm.batch = read_dim(*batch, symbols_);
    gemm.stride_a = read_dim(row, "stride_a", symbols_);
    gemm.stride_b = read_dim(row, "stride_b", symbols_);
    gemm.stride_c = read_dim(row, "stride_c", symbols_);
    return gemm;
}

Choice StepScope::read_choice(const Field &row) const {
    Choice choice;
    const Field options = row.required("options");
    for_each_item(options, [&](const Field &item) {
        Option option;
        const Field steps = item.required("steps");
        for_each_item(steps, [&](const Field &step) {
            // A choice inside a choice is not in the contract, and would nest without end.
            if (step.required("type").string() == "choice") step.fail("a choice inside a choice");
            option.steps.push_back(read_step(step));
        });
        for_each_item(item, "guard", [&](const Field &g) { option.guards.push_back(read_guard(g)); });
        choice.options.push_back(std::move(option));
    });
    if (choice.options.empty() || !choice.options.back().guards.empty())
        options.fail("the last option must have no guard");
    return choice;
}

Guard StepScope::read_guard(const Field &row) const {
    const Field op = row.required("op");
    for (size_t i = 0; i < kComparisons.size(); ++i)
        if (op.string() == kComparisons[i])
            return {read_dim(row.required("lhs"), symbols_), read_dim(row.required("rhs"), symbols_),
                    static_cast<Comparison>(i)};
    op.fail(text("unknown comparison ", quoted(op.string())));
}

Pointer StepScope::read_pointer(const Field &row) const {
    const std::string type = row.string_or("type", "pointer");
    if (type != "pointer") row.fail("expected a pointer");
    const Field space = row.required("space");
    const std::string name = row.string_or("name", "");
    for (size_t i = 0; i < kSpaces.size(); ++i) {
        if (space.string() != kSpaces[i]) continue;
        const auto found = spaces_[i].find(name);
        if (found == spaces_[i].end())
            row.fail(text("no ", kSpaces[i], " is called ", quoted(name), " here"));
        return {static_cast<Space>(i), found->second, read_dim(row, "offset_bytes", symbols_)};
    }
    space.fail(text("unknown space ", quoted(space.string())));
}

Argument StepScope::read_argument(const Field &row) const {
    const Field type = row.required("type");
    if (type.string() == "pointer") return read_pointer(row);
    if (type.string() == "immediate") return read_immediate(row);
    if (type.string() == "extent") {
        Extent extent{read_dim(row.required("value"), symbols_), TESSERA_I64};
        if (const auto dtype = row.member("dtype")) extent.dtype = dtype->dtype();
        return extent;
    }
    if (type.string() != "scalar") type.fail(text("unknown argument ", quoted(type.string())));
    const Field name = row.required("name");
    const auto found = scalars_.find(name.string());
    if (found == scalars_.end())
        row.fail(text("no scalar input is called ", quoted(name.string())));
    return ScalarInput{found->second};
}

}  // namespace tessera::native
