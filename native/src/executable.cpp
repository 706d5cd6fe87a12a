#include "executable.h"

#include <algorithm>
#include <cstring>

namespace tessera::native {

namespace {
constexpr size_t kKeptSchedules = 64;
}

std::shared_ptr<const Schedule> Schedules::find(const std::vector<int64_t> &values) {
    {
        const std::lock_guard<std::mutex> guard(lock_);
        const auto found = std::find_if(kept_.begin(), kept_.end(),
                                        [&](const Kept &kept) { return kept.values == values; });
        if (found != kept_.end()) {
            kept_.splice(kept_.begin(), kept_, found);
            return kept_.front().schedule;
        }
    }
    auto made = std::make_shared<const Schedule>(make_schedule(program_, plan_, values));
    const std::lock_guard<std::mutex> guard(lock_);
    kept_.push_front({values, made});
    if (kept_.size() > kKeptSchedules) kept_.pop_back();
    return made;
}

uint64_t Bases::resolve(const Address &address) const {
    uint64_t base = 0;
    switch (address.base) {
        case Base::Input: base = inputs[address.index]; break;
        case Base::Output: base = outputs[address.index]; break;
        case Base::Constant: base = constants[address.index]; break;
        case Base::Arena: base = arena; break;
        case Base::Persistent: base = persistent; break;
        case Base::Null: break;
    }
    return base + static_cast<uint64_t>(address.offset_bytes);
}

ArgumentCells::ArgumentCells(const LaunchCall &call, const Bases &bases,
                             const std::vector<Tensor> &inputs) {
    cells_.reserve(call.args.size());
    for (const CallArgument &arg : call.args) {
        uint64_t cell = 0;
        if (const auto *address = std::get_if<Address>(&arg)) {
            cell = bases.resolve(*address);
        } else if (const auto *number = std::get_if<Number>(&arg)) {
            cell = number->bits;
        } else {
            const Tensor &scalar = inputs[std::get<ScalarInput>(arg).input];
            std::memcpy(&cell, scalar.memory.get(), static_cast<size_t>(scalar.bytes));
        }
        cells_.push_back(cell);
    }
    for (uint64_t &cell : cells_) pointers_.push_back(&cell);
    // Not null even where a kernel takes nothing.
    pointers_.push_back(nullptr);
}

std::vector<Tensor> new_outputs(const Program &program, const Schedule &schedule,
                                const std::vector<Tensor> &inputs, bool copy_initial) {
    std::vector<Tensor> outputs;
    for (size_t i = 0; i < program.outputs.size(); ++i) {
        const Port &port = program.outputs[i];
        outputs.push_back(new_tensor(port.dtype, schedule.output_shapes[i]));
        if (port.initial < 0 || !copy_initial) continue;
        const Tensor &source = inputs[static_cast<size_t>(port.initial)];
        if (source.bytes)
            std::memcpy(outputs.back().memory.get(), source.memory.get(),
                        static_cast<size_t>(source.bytes));
    }
    return outputs;
}

}  // namespace tessera::native
