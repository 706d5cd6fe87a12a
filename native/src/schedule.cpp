#include "schedule.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "tensor.h"

namespace tessera::native {

namespace {

[[noreturn]] void outside(const std::string &what, int64_t offset, int64_t size, int64_t limit) {
    throw Failure(TESSERA_PROGRAM_ERROR,
                  text(what, ": ", size, " bytes at ", offset, " lie outside the ", limit, " there are"),
                  "compile the program again");
}

// Resolves steps to calls, for one binding of the symbols.
class Resolver {
public:
    Resolver(const Program &program, const Plan &plan, const std::vector<int64_t> &values, bool at_load)
        : program_(program), values_(values) {
        persistent_ = starts(plan.persistent, plan.persistent_bytes, "persistent buffer");
        persistent_bytes_ = plan.persistent_bytes;
        if (at_load) return;
        arena_bytes_ = size(plan.arena_bytes, "the arena");
        buffers_ = starts(plan.buffers, arena_bytes_, "buffer");
        for (const Port &port : program.inputs)
            input_bytes_.push_back(port.is_scalar ? 0 : tensor_bytes(port.dtype, shape(port)));
        for (const Port &port : program.outputs) {
            output_shapes_.push_back(shape(port));
            output_bytes_.push_back(tensor_bytes(port.dtype, output_shapes_.back()));
        }
    }

    Schedule schedule(const std::vector<Step> &steps) {
        Schedule found;
        resolve(steps, found.calls);
        found.arena_bytes = arena_bytes_;
        found.output_shapes = std::move(output_shapes_);
        return found;
    }

private:
    int64_t size(const Dim &dim, const std::string &what) const {
        const int64_t value = dim.evaluate(values_);
        if (value < 0)
            throw Failure(TESSERA_INPUT_ERROR,
                          text(what, ": the size ", dim.describe(program_.symbols), " is ", value,
                               " for these inputs, which is negative"));
        return value;
    }

    std::vector<int64_t> shape(const Port &port) const {
        std::vector<int64_t> sizes;
        for (const Dim &dim : port.shape) sizes.push_back(size(dim, quoted(port.name)));
        return sizes;
    }

    std::vector<int64_t> starts(const std::vector<Buffer> &buffers, int64_t limit,
                                const std::string &kind) const {
        std::vector<int64_t> offsets;
        for (const Buffer &buffer : buffers) {
            const std::string what = kind + " " + quoted(buffer.name);
            const int64_t offset = size(buffer.offset_bytes, what), bytes = size(buffer.bytes, what);
            if (add_sizes(offset, bytes) > limit) outside(what, offset, bytes, limit);
            offsets.push_back(offset);
        }
        return offsets;
    }

    void resolve(const std::vector<Step> &steps, std::vector<Call> &calls) const {
        for (const Step &step : steps) {
            if (const auto *launch = std::get_if<Launch>(&step)) {
                add_launch(*launch, calls);
            } else if (const auto *gemm = std::get_if<Gemm>(&step)) {
                add_gemm(*gemm, calls);
            } else {
                const auto &options = std::get<Choice>(step).options;
                const auto option = std::find_if(options.begin(), options.end(), [&](const Option &o) {
                    return std::all_of(o.guards.begin(), o.guards.end(),
                                       [&](const Guard &g) { return holds(g); });
                });
                resolve(option->steps, calls);
            }
        }
    }

    bool holds(const Guard &guard) const {
        const int64_t a = guard.lhs.evaluate(values_), b = guard.rhs.evaluate(values_);
        switch (guard.op) {
            case Comparison::Less: return a < b;
            case Comparison::LessEqual: return a <= b;
            case Comparison::Equal: return a == b;
            case Comparison::GreaterEqual: return a >= b;
            case Comparison::Greater: return a > b;
            default: return a > 0 && b % a == 0;
        }
    }

    void add_launch(const Launch &launch, std::vector<Call> &calls) const {
        const std::string what = "kernel " + quoted(launch.kernel);
        LaunchCall call;
        call.launch = &launch;
        for (size_t i = 0; i < 3; ++i) call.grid[i] = size(launch.grid[i], what);
        if (!call.grid[0] || !call.grid[1] || !call.grid[2]) return;
        multiply_sizes(multiply_sizes(call.grid[0], call.grid[1]), call.grid[2]);
        call.shared_bytes = size(launch.shared_bytes, what);
        for (const Argument &arg : launch.args) call.args.push_back(argument(arg, what));
        calls.emplace_back(std::move(call));
    }

    CallArgument argument(const Argument &arg, const std::string &what) const {
        if (const auto *pointer = std::get_if<Pointer>(&arg)) return address(*pointer, what);
        if (const auto *extent = std::get_if<Extent>(&arg)) return number(*extent, what);
        if (const auto *immediate = std::get_if<Immediate>(&arg)) return Number{immediate->bits};
        return std::get<ScalarInput>(arg);
    }

    Number number(const Extent &extent, const std::string &what) const {
        const int64_t value = extent.value.evaluate(values_);
        const DTypeFacts &type = facts(extent.dtype);
        if (type.is_float) return {encode_float(static_cast<double>(value), extent.dtype)};
        if (value < type.least || value > type.most)
            throw Failure(TESSERA_INPUT_ERROR, text(what, ": ", value, " does not fit ", type.name),
                          "use smaller inputs, or compile with i64 sizes");
        return {static_cast<uint64_t>(value)};
    }

    int64_t limit(const Address &address) const {
        switch (address.base) {
            case Base::Input: return input_bytes_[address.index];
            case Base::Output: return output_bytes_[address.index];
            case Base::Constant: return program_.constants[address.index].bytes;
            case Base::Arena: return arena_bytes_;
            case Base::Persistent: return persistent_bytes_;
            default: return 0;
        }
    }

    Address address(const Pointer &pointer, const std::string &what) const {
        Address found;
        int64_t start = 0;
        switch (pointer.space) {
            case Space::Input: found.base = Base::Input; break;
            case Space::Output: found.base = Base::Output; break;
            case Space::Constant: found.base = Base::Constant; break;
            case Space::Buffer: found.base = Base::Arena, start = buffers_[pointer.index]; break;
            case Space::Persistent:
                found.base = Base::Persistent, start = persistent_[pointer.index];
                break;
            case Space::Null: found.base = Base::Null; break;
        }
        const bool has_parts = found.base == Base::Arena || found.base == Base::Persistent;
        found.index = has_parts ? 0 : pointer.index;
        found.offset_bytes = add_sizes(start, pointer.offset_bytes.evaluate(values_));
        if (found.offset_bytes < 0 || found.offset_bytes > limit(found))
            outside(what, found.offset_bytes, 0, limit(found));
        return found;
    }

    void add_gemm(const Gemm &gemm, std::vector<Call> &calls) const {
        GemmCall call;
        call.dtype = gemm.dtype;
        call.m = size(gemm.m, "gemm"), call.n = size(gemm.n, "gemm"), call.k = size(gemm.k, "gemm");
        call.batch = size(gemm.batch, "gemm");
        if (!call.m || !call.n || !call.batch) return;
        call.transpose_a = gemm.transpose_a, call.transpose_b = gemm.transpose_b;
        call.stride_a = size(gemm.stride_a, "gemm");
        call.stride_b = size(gemm.stride_b, "gemm");
        call.stride_c = size(gemm.stride_c, "gemm");
        call.a = matrices(gemm, gemm.a, call.batch, call.stride_a, call.m, call.k);
        call.b = matrices(gemm, gemm.b, call.batch, call.stride_b, call.k, call.n);
        call.c = matrices(gemm, gemm.c, call.batch, call.stride_c, call.m, call.n);
        calls.emplace_back(call);
    }

    // Where the matrices of one side lie: inside what the pointer points into, and aligned.
    Address matrices(const Gemm &gemm, const Pointer &pointer, int64_t batch, int64_t stride,
                     int64_t rows, int64_t columns) const {
        const Address found = address(pointer, "gemm");
        const int64_t element = facts(gemm.dtype).bytes;
        const int64_t steps = multiply_sizes(multiply_sizes(batch - 1, stride), element);
        const int64_t span = add_sizes(steps, multiply_sizes(multiply_sizes(rows, columns), element));
        if (add_sizes(found.offset_bytes, span) > limit(found))
            outside("gemm", found.offset_bytes, span, limit(found));
        if (found.offset_bytes % element)
            throw Failure(TESSERA_PROGRAM_ERROR,
                          text("gemm: offset ", found.offset_bytes, " is no multiple of ", element));
        return found;
    }

    const Program &program_;
    const std::vector<int64_t> &values_;
    std::vector<int64_t> buffers_, persistent_, input_bytes_, output_bytes_;
    std::vector<std::vector<int64_t>> output_shapes_;
    int64_t arena_bytes_ = 0, persistent_bytes_ = 0;
};

}  // namespace

Schedule make_schedule(const Program &program, const Plan &plan, const std::vector<int64_t> &values) {
    return Resolver(program, plan, values, false).schedule(plan.steps);
}

Schedule make_setup(const Program &program, const Plan &plan) {
    const std::vector<int64_t> none;
    return Resolver(program, plan, none, true).schedule(plan.setup);
}

}  // namespace tessera::native
