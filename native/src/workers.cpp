#include "workers.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace tessera::native {

namespace {

// Parts of a launch per thread: more even out what threads take, fewer cost less.
constexpr int64_t kChunksPerThread = 4;
constexpr int kMostThreads = 1024;

// One launch, taken in chunks by whoever is free.
struct Job {
    const RangeWork *work = nullptr;
    int64_t begin = 0, length = 0, chunks = 0;
    std::atomic<int64_t> ticket{0};

    // `length * i / chunks` without overflow, as both are below 2^63 and chunks is small.
    int64_t bound(int64_t i) const {
        return begin + length / chunks * i + length % chunks * i / chunks;
    }

    void take() {
        for (int64_t i = ticket++; i < chunks; i = ticket++) (*work)(bound(i), bound(i + 1));
    }
};

class Workers {
public:
    explicit Workers(int threads) : process_(::getpid()) {
        for (int i = 1; i < threads; ++i) {
            try {
                threads_.emplace_back([this] { serve(); });
            } catch (const std::system_error &) {
                break;  // the system allows no more: those there are do
            }
        }
    }

    ~Workers() {
        // After a fork there are no threads to join, only handles that say so.
        if (process_ != ::getpid()) {
            for (std::thread &thread : threads_) thread.detach();
            return;
        }
        {
            const std::lock_guard<std::mutex> guard(lock_);
            closing_ = true;
        }
        wake_.notify_all();
        for (std::thread &thread : threads_) thread.join();
    }

    Workers(const Workers &) = delete;
    Workers &operator=(const Workers &) = delete;

    void run(const RangeWork &work, int64_t begin, int64_t end) {
        const auto threads = static_cast<int64_t>(threads_.size()) + 1;
        std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
        if (threads == 1 || end - begin < 2 || !turn || process_ != ::getpid())
            return work(begin, end);
        Job job;
        job.work = &work;
        job.begin = begin;
        job.length = end - begin;
        job.chunks = std::min(job.length, threads * kChunksPerThread);
        {
            const std::lock_guard<std::mutex> guard(lock_);
            job_ = &job;
            ++generation_;
        }
        wake_.notify_all();
        job.take();
        // Those still inside the job hold a pointer to it.
        std::unique_lock<std::mutex> guard(lock_);
        job_ = nullptr;
        done_.wait(guard, [this] { return inside_ == 0; });
    }

private:
    void serve() {
        uint64_t seen = 0;
        std::unique_lock<std::mutex> guard(lock_);
        for (;;) {
            wake_.wait(guard, [&] { return closing_ || (job_ && generation_ != seen); });
            if (closing_) return;
            seen = generation_;
            Job *job = job_;
            ++inside_;
            guard.unlock();
            job->take();
            guard.lock();
            if (--inside_ == 0) done_.notify_all();
        }
    }

    pid_t process_;
    std::mutex turn_, lock_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> threads_;
    Job *job_ = nullptr;
    uint64_t generation_ = 0;
    int inside_ = 0;
    bool closing_ = false;
};

}  // namespace

int worker_threads() {
    static const int count = [] {
        if (const char *text = std::getenv("TESSERA_NUM_THREADS")) {
            const long asked = std::strtol(text, nullptr, 10);
            if (asked > 0) return static_cast<int>(std::min<long>(asked, kMostThreads));
        }
        cpu_set_t allowed;
        if (::sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
        return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    }();
    return count;
}

void share_work(const RangeWork &work, int64_t begin, int64_t end) {
    if (worker_threads() == 1) return work(begin, end);
    static Workers workers(worker_threads());
    workers.run(work, begin, end);
}

}  // namespace tessera::native
