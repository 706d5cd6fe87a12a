// Reads Programs; what `tessera.program.validate` refuses is refused here too, except in the
// graph, which this runtime does not use.
#include <algorithm>
#include <unordered_set>

#include "arch.h"
#include "fields.h"
#include "program.h"
#include "step_json.h"

namespace tessera::native {

namespace {

// Looking a symbol up takes as long as there are symbols; programs have a handful.
constexpr size_t kMaxSymbols = 1024;

template <class Items>
void check_unique(const Field &field, const Items &items) {
    std::unordered_set<std::string_view> seen;
    for (const auto &item : items)
        if (!seen.insert(item.name).second) field.fail(text(quoted(item.name), " appears twice"));
}

bool is_scalar_port(const Field &row) {
    const std::string kind = row.string_or("kind", "tensor");
    if (kind != "tensor" && kind != "scalar") row.fail(text("unknown kind ", quoted(kind)));
    return kind == "scalar";
}

// The symbols that the inputs give a value: bare symbols in shapes, and integer scalars.
Symbols bound_symbols(const Field &inputs) {
    Symbols symbols;
    const auto add = [&](const std::string &name) {
        if (std::find(symbols.begin(), symbols.end(), name) != symbols.end()) return;
        if (symbols.size() == kMaxSymbols) inputs.fail(text("more than ", kMaxSymbols, " symbols"));
        symbols.push_back(name);
    };
    for_each_item(inputs, [&](const Field &row) {
        for_each_item(row, "shape", [&](const Field &dim) {
            if (const std::string *name = dim.json().text(); name && is_symbol(*name)) add(*name);
        });
        if (is_scalar_port(row) && !facts(row.required("dtype").dtype()).is_float)
            add(row.required("name").string());
    });
    return symbols;
}

Port read_port(const Field &row, const Symbols &symbols) {
    Port port;
    port.name = row.required("name").string();
    port.dtype = row.required("dtype").dtype();
    port.is_scalar = is_scalar_port(row);
    for_each_item(row, "shape",
                  [&](const Field &dim) { port.shape.push_back(read_dim(dim, symbols)); });
    return port;
}

Port read_output(const Field &row, const Program &program) {
    Port port = read_port(row, program.symbols);
    const std::optional<Field> initial = row.member("initial");
    if (!initial || initial->json().is_null()) return port;
    for (size_t i = 0; i < program.inputs.size(); ++i) {
        const Port &input = program.inputs[i];
        if (input.name != initial->string() || input.is_scalar) continue;
        // Sizes are in normal form: equal ones are written alike.
        if (input.dtype != port.dtype || describe_shape(input.shape, program.symbols) !=
                                             describe_shape(port.shape, program.symbols))
            initial->fail(text("input ", quoted(input.name), " has another shape or dtype"));
        port.initial = static_cast<int>(i);
        return port;
    }
    initial->fail(text("no tensor input is called ", quoted(initial->string())));
}

Constant read_constant(const Field &row) {
    Constant constant;
    constant.name = row.required("name").string();
    constant.dtype = row.required("dtype").dtype();
    constant.bytes = facts(constant.dtype).bytes;
    const Field shape = row.required("shape");
    for_each_item(shape, [&](const Field &size) {
        if (size.integer() < 0) size.fail("a negative size");
        constant.shape.push_back(size.integer());
        if (__builtin_mul_overflow(constant.bytes, size.integer(), &constant.bytes))
            shape.fail("more than 64 bits hold");
    });
    return constant;
}

std::vector<Buffer> read_buffers(const Field &plan, const char *key, const Symbols &symbols) {
    std::vector<Buffer> buffers;
    for_each_item(plan, key, [&](const Field &row) {
        buffers.push_back({row.required("name").string(), read_dim(row.required("offset_bytes"), symbols),
                           read_dim(row.required("bytes"), symbols)});
    });
    if (const auto field = plan.member(key)) check_unique(*field, buffers);
    return buffers;
}

std::vector<std::string> read_targets(const Field &field) {
    std::vector<std::string> targets;
    for_each_item(field, [&](const Field &target) {
        if (!is_target(target.string()))
            target.fail(text(quoted(target.string()), " is not a full target name"));
        targets.push_back(target.string());
    });
    if (targets.empty()) field.fail("is empty");
    return targets;
}

Plan read_plan(const Field &row, const Program &program) {
    Plan plan;
    plan.targets = read_targets(row.required("targets"));
    plan.buffers = read_buffers(row, "buffers", program.symbols);
    plan.persistent = read_buffers(row, "persistent", {});
    plan.arena_bytes = read_dim(row, "arena_bytes", program.symbols);
    plan.persistent_bytes = row.integer_or("persistent_bytes", 0);
    if (plan.persistent_bytes < 0) row.fail("negative persistent_bytes");
    plan.steps = StepScope(program, plan, false).read(row.required("steps"));
    if (const auto setup = row.member("setup")) plan.setup = StepScope(program, plan, true).read(*setup);
    return plan;
}

Program decode(const Field &root) {
    const Field schema = root.required("schema");
    if (!is_version_1(schema.string()))
        schema.fail(text("version ", quoted(schema.string()), " is not 1.x, which this runtime reads"));
    Program program;
    const Field name = root.required("name"), inputs = root.required("inputs");
    program.name = name.string();
    if (program.name.empty()) name.fail("is empty");
    program.symbols = bound_symbols(inputs);
    for_each_item(inputs, [&](const Field &row) {
        program.inputs.push_back(read_port(row, program.symbols));
    });
    check_unique(inputs, program.inputs);
    const Field outputs = root.required("outputs");
    for_each_item(outputs, [&](const Field &row) {
        program.outputs.push_back(read_output(row, program));
    });
    check_unique(outputs, program.outputs);
    for_each_item(root, "constants", [&](const Field &row) {
        program.constants.push_back(read_constant(row));
    });
    if (const auto constants = root.member("constants")) check_unique(*constants, program.constants);
    for_each_item(root, "plans", [&](const Field &row) {
        program.plans.push_back(read_plan(row, program));
    });
    std::unordered_set<std::string> seen;
    for (const std::string &target : program.targets())
        if (!seen.insert(target).second)
            root.required("plans").fail(text(quoted(target), " appears twice"));
    return program;
}

}  // namespace

Program read_program(Bytes document) {
    try {
        const Json json = parse_json(document.chars());
        return decode(Field(json));
    } catch (const JsonError &error) {
        throw Failure(TESSERA_PROGRAM_ERROR, error.problem);
    } catch (const FieldError &error) {
        throw Failure(TESSERA_PROGRAM_ERROR, text(error.path, ": ", error.problem),
                      "compile the program again");
    }
}

}  // namespace tessera::native
