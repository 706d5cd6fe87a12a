// Threads of this process that share the work items of large launches.
#pragma once

#include <cstdint>
#include <functional>

namespace tessera::native {

// Does the work items `begin ... end` of something.
using RangeWork = std::function<void(int64_t begin, int64_t end)>;

// Threads that one launch may use, the calling one included: TESSERA_NUM_THREADS, or else the CPUs
// that this process may run on.
int worker_threads();

// Call `work` on parts of `[begin, end)`, several at the same time; return when all are done.
// `work` must not throw. Where the workers are busy with another launch, the caller does it alone.
void share_work(const RangeWork &work, int64_t begin, int64_t end);

}  // namespace tessera::native
