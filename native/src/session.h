// A package and the device that its programs are loaded on: what a `tessera_runtime` handle holds.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device.h"
#include "package.h"

namespace tessera::native {

class Session {
public:
    explicit Session(const std::string &path) : package_(path) {}

    const Package &package() const { return package_; }

    // Load every program on `device`: "cpu", "cuda", "cuda:1" or "auto". On failure the session is
    // as it was.
    void initialize(const std::string &device);

    // Name of the device; empty before `initialize`. Lives as long as the session.
    const std::string &device_name() const;

    // Outputs in order, of `program` (null: see `Package::program`).
    std::vector<Tensor> execute(const char *program, const std::vector<Tensor> &inputs) const;

private:
    // The programs on one device. Calls under way keep it when another takes its place.
    struct Loaded {
        std::string name;
        std::unique_ptr<Device> device;
        std::map<std::string, std::unique_ptr<Executable>> programs;  // go before the device
    };

    std::shared_ptr<Loaded> load(std::unique_ptr<Device> device) const;
    std::shared_ptr<Loaded> open(const std::string &device) const;
    std::shared_ptr<Loaded> open_best() const;
    std::shared_ptr<Loaded> loaded() const;

    Package package_;
    mutable std::mutex lock_;
    std::shared_ptr<Loaded> loaded_;
    std::map<std::string, std::string> names_;  // of devices used so far, for `device_name`
    const std::string *name_ = nullptr;
};

}  // namespace tessera::native
