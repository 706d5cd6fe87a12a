// Loads a package with one byte flipped, or cut off, at every `step`-th place.
// Exits 0 if each was refused and the sound one was not.
#include <tessera/runtime.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

namespace {

void write(const std::string &path, const std::string &bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc).write(bytes.data(), std::streamsize(bytes.size()));
}

// Whether the package passes, after trying everything that it lets one try.
bool passes(const std::string &path, std::string &message) {
    try {
        auto runtime = tessera::Runtime::load(path);
        try {
            runtime->initialize("cpu");
            runtime->execute({tessera::Tensor::zeros({5})});
        } catch (const tessera::Error &) {
            // What is wrong may lie where verify finds it below.
        }
        runtime->verify();
        return true;
    } catch (const tessera::Error &error) {
        message = error.what();
        return false;
    }
}

}  // namespace

int main(int count, char **arguments) {
    if (count != 4) return 2;
    const std::string scratch = arguments[2];
    const size_t step = std::strtoul(arguments[3], nullptr, 10);
    std::ifstream file(arguments[1], std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    std::string message;
    write(scratch, bytes);
    if (!passes(scratch, message)) {
        std::cerr << "the sound package was refused: " << message << "\n";
        return 1;
    }
    size_t refused = 0;
    for (size_t at = 0; at < bytes.size(); at += step) {
        std::string broken = bytes;
        broken[at] = static_cast<char>(broken[at] ^ (1 << (at % 8)));
        write(scratch, broken);
        if (passes(scratch, message) || message.empty()) {
            std::cerr << "byte " << at << " was flipped and the package passed\n";
            return 1;
        }
        write(scratch, bytes.substr(0, at));
        if (passes(scratch, message)) {
            std::cerr << "the first " << at << " bytes passed\n";
            return 1;
        }
        refused += 2;
    }
    std::cout << refused << " refused\n";
    return 0;
}
