// The shared part of running a plan: a schedule per shape, kept for the next call, and arguments.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "device.h"
#include "schedule.h"

namespace tessera::native {

// The schedules that a program's calls used last, by the values of its symbols.
class Schedules {
public:
    Schedules(const Program &program, const Plan &plan) : program_(program), plan_(plan) {}

    std::shared_ptr<const Schedule> find(const std::vector<int64_t> &values);

private:
    struct Kept {
        std::vector<int64_t> values;
        std::shared_ptr<const Schedule> schedule;
    };

    const Program &program_;
    const Plan &plan_;
    std::mutex lock_;
    std::list<Kept> kept_;  // the most recently used first
};

// Where the memory of one call lies on the device.
struct Bases {
    std::vector<uint64_t> inputs, outputs, constants;
    uint64_t arena = 0, persistent = 0;

    uint64_t resolve(const Address &address) const;
};

// The arguments of one launch as C takes them: an array of pointers to values of at most 8 bytes.
class ArgumentCells {
public:
    ArgumentCells(const LaunchCall &call, const Bases &bases, const std::vector<Tensor> &inputs);
    void **pointers() { return pointers_.data(); }

private:
    std::vector<uint64_t> cells_;
    std::vector<void *> pointers_;
};

// Memory for the results: fresh, or a copy of the input that it starts with (`copy_initial`).
std::vector<Tensor> new_outputs(const Program &program, const Schedule &schedule,
                                const std::vector<Tensor> &inputs, bool copy_initial);

}  // namespace tessera::native
