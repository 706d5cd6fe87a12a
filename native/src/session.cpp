#include "session.h"

#include "inputs.h"

namespace tessera::native {

namespace {

constexpr const char *kKnown = "known: cpu, cuda:0, auto";

// The number in `cuda:3`; 0 in `cuda`; -1 for any other name.
int cuda_index(const std::string &name) {
    if (name == "cuda") return 0;
    if (name.compare(0, 5, "cuda:") != 0) return -1;
    const std::string digits = name.substr(5);
    if (digits.empty() || digits.size() > 4 ||
        digits.find_first_not_of("0123456789") != std::string::npos)
        return -1;
    return std::stoi(digits);
}

}  // namespace

std::shared_ptr<Session::Loaded> Session::load(std::unique_ptr<Device> device) const {
    auto loaded = std::make_shared<Loaded>();
    loaded->name = device->name();
    loaded->device = std::move(device);
    if (package_.programs().empty())
        throw Failure(TESSERA_DEVICE_ERROR, "there is no program in the package to run",
                      "tessera inspect shows what a package holds");
    for (const Program &program : package_.programs())
        loaded->programs.emplace(program.name, loaded->device->load(program, package_));
    return loaded;
}

std::shared_ptr<Session::Loaded> Session::open(const std::string &device) const {
    if (device == "auto") return open_best();
    if (device == "cpu") return load(open_cpu());
    const int index = cuda_index(device);
    if (index < 0)
        throw Failure(TESSERA_DEVICE_ERROR, text("unknown device ", quoted(device)), kKnown);
    return load(open_cuda(index));
}

std::shared_ptr<Session::Loaded> Session::open_best() const {
    std::string reason;
    try {
        return load(open_cuda(current_cuda_device()));
    } catch (const Failure &failure) {
        // Only what a CPU may do better about: a damaged package is no better there.
        if (failure.status != TESSERA_DEVICE_ERROR) throw;
        reason = failure.message;
    }
    try {
        return load(open_cpu());
    } catch (const Failure &failure) {
        if (failure.status != TESSERA_DEVICE_ERROR) throw;
        throw Failure(failure.status, text(failure.message, "; and on a GPU: ", reason), failure.hint);
    }
}

void Session::initialize(const std::string &device) {
    std::shared_ptr<Loaded> fresh = open(device);
    const std::lock_guard<std::mutex> guard(lock_);
    name_ = &names_.emplace(fresh->name, fresh->name).first->second;
    // The old device goes here, or with the last call that uses it.
    loaded_.swap(fresh);
}

const std::string &Session::device_name() const {
    static const std::string none;
    const std::lock_guard<std::mutex> guard(lock_);
    return name_ ? *name_ : none;
}

std::shared_ptr<Session::Loaded> Session::loaded() const {
    const std::lock_guard<std::mutex> guard(lock_);
    if (!loaded_)
        throw Failure(TESSERA_DEVICE_ERROR, "the runtime is not initialized",
                      "call initialize() before execute()");
    return loaded_;
}

std::vector<Tensor> Session::execute(const char *name, const std::vector<Tensor> &inputs) const {
    const std::shared_ptr<Loaded> on = loaded();
    const Program &program = package_.program(name);
    return on->programs.at(program.name)->run(read_inputs(program, inputs));
}

}  // namespace tessera::native
