#include "program.h"

#include <algorithm>

namespace tessera::native {

namespace {

void add_kernels(const std::vector<Step> &steps, std::vector<std::string> &found) {
    for (const Step &step : steps) {
        if (const auto *launch = std::get_if<Launch>(&step)) {
            if (std::find(found.begin(), found.end(), launch->kernel) == found.end())
                found.push_back(launch->kernel);
        } else if (const auto *choice = std::get_if<Choice>(&step)) {
            for (const Option &option : choice->options) add_kernels(option.steps, found);
        }
    }
}

std::string joined(const std::vector<std::string> &sizes) {
    std::string out = "(";
    for (size_t i = 0; i < sizes.size(); ++i) out += (i ? ", " : "") + sizes[i];
    return out + ")";
}

}  // namespace

std::vector<std::string> Plan::kernels() const {
    std::vector<std::string> found;
    add_kernels(setup, found);
    add_kernels(steps, found);
    return found;
}

const Plan *Program::plan_for(const std::string &target) const {
    for (const Plan &plan : plans)
        if (std::find(plan.targets.begin(), plan.targets.end(), target) != plan.targets.end())
            return &plan;
    return nullptr;
}

std::vector<std::string> Program::targets() const {
    std::vector<std::string> found;
    for (const Plan &plan : plans) found.insert(found.end(), plan.targets.begin(), plan.targets.end());
    return found;
}

std::string describe_shape(const std::vector<Dim> &shape, const Symbols &symbols) {
    std::vector<std::string> sizes;
    for (const Dim &dim : shape) sizes.push_back(dim.describe(symbols));
    return joined(sizes);
}

std::string describe_shape(const std::vector<int64_t> &shape) {
    std::vector<std::string> sizes;
    for (int64_t size : shape) sizes.push_back(text(size));
    return joined(sizes);
}

std::string describe_port(const Port &port, const Symbols &symbols) {
    return facts(port.dtype).name + (port.is_scalar ? "" : describe_shape(port.shape, symbols));
}

std::string Program::describe_inputs() const {
    std::string out = "inputs: ";
    for (size_t i = 0; i < inputs.size(); ++i)
        out += (i ? ", " : "") + inputs[i].name + ": " + describe_port(inputs[i], symbols);
    return inputs.empty() ? "it takes no inputs" : out;
}

}  // namespace tessera::native
