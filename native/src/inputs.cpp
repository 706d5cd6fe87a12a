#include "inputs.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace tessera::native {

namespace {

std::string named(const Port &port) { return "input " + quoted(port.name); }

[[noreturn]] void mismatch(const Program &program, const Port &port, const Tensor &tensor,
                           const std::string &problem) {
    throw Failure(TESSERA_INPUT_ERROR,
                  text(named(port), " of shape ", describe_shape(tensor.shape), ": ", problem),
                  "it takes " + describe_port(port, program.symbols));
}

// The value of an integer scalar in its port's dtype.
int64_t integer_value(const Tensor &scalar) {
    const Tensor wide = converted(scalar, TESSERA_I64, "a scalar");
    int64_t value = 0;
    std::memcpy(&value, wide.memory.get(), sizeof value);
    return value;
}

}  // namespace

std::vector<Tensor> read_inputs(const Program &program, const std::vector<Tensor> &given) {
    if (given.size() != program.inputs.size())
        throw Failure(TESSERA_INPUT_ERROR,
                      text("program ", quoted(program.name), " takes ", program.inputs.size(),
                           program.inputs.size() == 1 ? " input, got " : " inputs, got ", given.size()),
                      program.describe_inputs());
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < given.size(); ++i) {
        const Port &port = program.inputs[i];
        const Tensor &tensor = given[i];
        if (port.is_scalar && tensor.count() != 1)
            throw Failure(TESSERA_INPUT_ERROR,
                          text(named(port), " is a scalar, got shape ", describe_shape(tensor.shape)),
                          "it takes one " + std::string(facts(port.dtype).name));
        if (!port.is_scalar && tensor.shape.size() != port.shape.size())
            mismatch(program, port, tensor,
                     text("has ", tensor.shape.size(), " axes, expected ", port.shape.size()));
        inputs.push_back(converted(tensor, port.dtype, named(port)));
    }
    return inputs;
}

std::vector<int64_t> bind_symbols(const Program &program, const std::vector<Tensor> &inputs) {
    std::vector<std::optional<int64_t>> found(program.symbols.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
        const Port &port = program.inputs[i];
        if (!port.is_scalar || facts(port.dtype).is_float) continue;
        const auto symbol = std::find(program.symbols.begin(), program.symbols.end(), port.name);
        found[static_cast<size_t>(symbol - program.symbols.begin())] = integer_value(inputs[i]);
    }
    const auto each_axis = [&](auto check) {
        for (size_t i = 0; i < inputs.size(); ++i)
            if (!program.inputs[i].is_scalar)
                for (size_t axis = 0; axis < inputs[i].shape.size(); ++axis)
                    check(program.inputs[i], inputs[i], axis);
    };
    each_axis([&](const Port &port, const Tensor &tensor, size_t axis) {
        const int symbol = port.shape[axis].symbol();
        if (symbol < 0) return;
        std::optional<int64_t> &value = found[static_cast<size_t>(symbol)];
        if (value && *value != tensor.shape[axis])
            mismatch(program, port, tensor,
                     text("axis ", axis, " is ", tensor.shape[axis], ", but ",
                          program.symbols[static_cast<size_t>(symbol)], " is ", *value));
        value = tensor.shape[axis];
    });
    std::vector<int64_t> values;
    // Every symbol is a bare one of some tensor, or a scalar's: each has a value now.
    for (const std::optional<int64_t> &value : found) values.push_back(value.value_or(0));
    each_axis([&](const Port &port, const Tensor &tensor, size_t axis) {
        const int64_t expected = port.shape[axis].evaluate(values);
        if (tensor.shape[axis] != expected)
            mismatch(program, port, tensor,
                     text("axis ", axis, " is ", tensor.shape[axis], ", expected ", expected));
    });
    return values;
}

}  // namespace tessera::native
