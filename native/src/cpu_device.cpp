// The CPU as a device: native kernels out of a package, on all cores.
#include <chrono>
#include <map>

#include "cpu_level.h"
#include "device.h"
#include "executable.h"
#include "gemm.h"
#include "inputs.h"
#include "library.h"
#include "workers.h"

namespace tessera::native {

void fail_no_code(const Program &program, const std::string &machine, const std::string &hint) {
    std::string there;
    for (const std::string &target : program.targets()) there += (there.empty() ? "" : ", ") + target;
    throw Failure(TESSERA_DEVICE_ERROR,
                  text("program ", quoted(program.name), " has no code for ", machine,
                       "; it has code for: ", there.empty() ? "no target" : there),
                  hint);
}

namespace {

using Clock = std::chrono::steady_clock;

// A launch is shared among threads if what is left of it would take longer.
constexpr int64_t kWorthSharingNs = 100'000;
// The part of a launch that is timed to learn what an item costs.
constexpr int64_t kProbePart = 16;

uint64_t address_of(const uint8_t *memory) { return reinterpret_cast<uintptr_t>(memory); }
uint8_t *memory_at(uint64_t address) { return reinterpret_cast<uint8_t *>(address); }

// Arenas of calls that are over, for the next ones.
class Arenas {
public:
    struct Block {
        std::shared_ptr<uint8_t> memory;
        int64_t bytes = 0;
    };

    Block take(int64_t bytes) {
        const std::lock_guard<std::mutex> guard(lock_);
        const auto found = idle_.lower_bound(bytes);
        // One that is far too large would keep others from it.
        if (found != idle_.end() && found->first <= 2 * bytes + 65536) {
            Block block{std::move(found->second), found->first};
            idle_.erase(found);
            return block;
        }
        return {allocate(bytes, "working memory"), bytes};
    }

    void give_back(Block block) {
        const std::lock_guard<std::mutex> guard(lock_);
        idle_.emplace(block.bytes, std::move(block.memory));
        if (idle_.size() > kMostIdle) idle_.erase(idle_.begin());
    }

private:
    static constexpr size_t kMostIdle = 8;
    std::mutex lock_;
    std::multimap<int64_t, std::shared_ptr<uint8_t>> idle_;
};

class CpuExecutable : public Executable {
public:
    CpuExecutable(const Program &program, const Plan &plan, std::map<std::string, CpuKernel> kernels,
                  const Package &package)
        : program_(program), kernels_(std::move(kernels)), schedules_(program, plan) {
        for (const Constant &constant : program.constants) {
            weights_.push_back(aligned(package.weight(constant), constant));
            fixed_.constants.push_back(address_of(weights_.back().bytes.data));
        }
        persistent_ = allocate(plan.persistent_bytes, "persistent memory");
        fixed_.persistent = address_of(persistent_.get());
        run_calls(make_setup(program, plan), fixed_, {});
    }

    std::vector<Tensor> run(const std::vector<Tensor> &inputs) override {
        const std::shared_ptr<const Schedule> schedule = schedules_.find(bind_symbols(program_, inputs));
        std::vector<Tensor> outputs = new_outputs(program_, *schedule, inputs, true);
        Bases bases = fixed_;
        for (const Tensor &input : inputs) bases.inputs.push_back(address_of(input.memory.get()));
        for (const Tensor &output : outputs) bases.outputs.push_back(address_of(output.memory.get()));
        Arenas::Block arena = arenas_.take(schedule->arena_bytes);
        bases.arena = address_of(arena.memory.get());
        run_calls(*schedule, bases, inputs);
        arenas_.give_back(std::move(arena));
        return outputs;
    }

private:
    // Weights of a container lie on pages; those of other origins may lie anywhere.
    static Content aligned(Content content, const Constant &constant) {
        const auto element = static_cast<uint64_t>(facts(constant.dtype).bytes);
        if (address_of(content.bytes.data) % element == 0) return content;
        const std::shared_ptr<uint8_t> memory = allocate(constant.bytes, "a weight");
        std::copy(content.bytes.data, content.bytes.data + content.bytes.size, memory.get());
        return {{memory.get(), content.bytes.size}, memory};
    }

    void run_calls(const Schedule &schedule, const Bases &bases, const std::vector<Tensor> &inputs) const {
        for (const Call &call : schedule.calls) {
            if (const auto *launch = std::get_if<LaunchCall>(&call))
                run_launch(*launch, bases, inputs);
            else
                run_gemm(std::get<GemmCall>(call), bases);
        }
    }

    void run_launch(const LaunchCall &call, const Bases &bases, const std::vector<Tensor> &inputs) const {
        const CpuKernel kernel = kernels_.at(call.launch->kernel);
        ArgumentCells cells(call, bases, inputs);
        void *const *args = cells.pointers();
        const int64_t items = call.items();
        if (items == 1 || worker_threads() == 1) return kernel(args, 0, items);
        const int64_t probe = (items + kProbePart - 1) / kProbePart;
        const auto start = Clock::now();
        kernel(args, 0, probe);
        const auto spent = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
        const double left = double(spent.count()) / double(probe) * double(items - probe);
        if (left < double(kWorthSharingNs))
            kernel(args, probe, items);
        else
            share_work([&](int64_t begin, int64_t end) { kernel(args, begin, end); }, probe, items);
    }

    static void run_gemm(const GemmCall &call, const Bases &bases) {
        Product product;
        product.dtype = call.dtype;
        product.m = call.m, product.n = call.n, product.k = call.k, product.batch = call.batch;
        product.transpose_a = call.transpose_a, product.transpose_b = call.transpose_b;
        product.a = memory_at(bases.resolve(call.a));
        product.b = memory_at(bases.resolve(call.b));
        product.c = memory_at(bases.resolve(call.c));
        product.stride_a = call.stride_a, product.stride_b = call.stride_b;
        product.stride_c = call.stride_c;
        multiply(product);
    }

    const Program &program_;
    std::map<std::string, CpuKernel> kernels_;
    Schedules schedules_;
    Arenas arenas_;
    Bases fixed_;
    std::vector<Content> weights_;
    std::shared_ptr<uint8_t> persistent_;
};

class CpuDevice : public Device {
public:
    std::string name() const override { return "cpu"; }

    std::unique_ptr<Executable> load(const Program &program, const Package &package) override {
        const std::vector<std::string> targets = host_cpu_targets();
        for (const std::string &target : targets)
            if (const Plan *plan = program.plan_for(target))
                return std::make_unique<CpuExecutable>(
                    program, *plan, kernels(program, *plan, target, package), package);
        fail_no_code(program, "this CPU (" + (targets.empty() ? "of no known level" : targets[0]) + ")",
                     "compile it with the target cpu too: tessera compile FILE --arch cpu");
    }

private:
    std::map<std::string, CpuKernel> kernels(const Program &program, const Plan &plan,
                                             const std::string &target, const Package &package) {
        std::map<std::string, CpuKernel> found;
        for (const std::string &name : plan.kernels()) {
            const KernelRow *row = package.kernel(program.name, name, target, CodeFormat::SharedObject);
            if (!row)
                throw Failure(TESSERA_DEVICE_ERROR,
                              text("program ", quoted(program.name), ": its plan for ", target,
                                   " launches ", quoted(name), ", but there is no native code of that name"),
                              "compile the program again");
            std::unique_ptr<KernelLibrary> &library = libraries_[row->path];
            if (!library) library = std::make_unique<KernelLibrary>(package.code(*row).bytes, row->path);
            found.emplace(name, library->kernel(name));
        }
        return found;
    }

    std::map<std::string, std::unique_ptr<KernelLibrary>> libraries_;
};

}  // namespace

std::unique_ptr<Device> open_cpu() { return std::make_unique<CpuDevice>(); }

}  // namespace tessera::native
