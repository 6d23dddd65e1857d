// Work split over threads: chunks are taken as threads become free, the first exception stops all
// of them and is rethrown to the caller, and the caller's own thread looks for interrupts.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "team.hpp"

namespace synthkern {

// Called on the caller's thread every 50 ms; throws to end the work.
using Interrupt = std::function<void()>;

class Poll {
  public:
    Poll(const std::atomic<bool>& stop, const Interrupt* interrupt)
        : stop_(stop), interrupt_(interrupt) {}

    // True where the work has been called off. Call it at least every few milliseconds. The clock
    // is read at every 16th call: 25 ns each time are half of what a toy's sample costs.
    bool stopped() {
        if (interrupt_ != nullptr && ++calls_ % 16 == 0) {
            const auto now = std::chrono::steady_clock::now();
            if (now - last_ > std::chrono::milliseconds(50)) {
                last_ = now;
                (*interrupt_)();
            }
        }
        return stop_.load(std::memory_order_relaxed);
    }

  private:
    const std::atomic<bool>& stop_;
    const Interrupt* interrupt_;
    unsigned calls_ = 0;
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Calls worker(chunk, poll) for every chunk in [0, chunks); each thread has its own worker, made
// by make_worker().
template <class MakeWorker>
void parallel(int64_t chunks, int threads, const Interrupt& interrupt, MakeWorker make_worker) {
    std::atomic<int64_t> next{0};
    std::atomic<bool> stop{false};
    std::exception_ptr failure;
    std::mutex failure_lock;
    const std::thread::id caller = std::this_thread::get_id();
    run_team(int(std::max<int64_t>(1, std::min<int64_t>(threads, chunks))), [&] {
        try {
            Poll poll(stop, std::this_thread::get_id() == caller ? &interrupt : nullptr);
            auto worker = make_worker();
            for (int64_t chunk; (chunk = next.fetch_add(1)) < chunks && !poll.stopped();)
                worker(chunk, poll);
        } catch (...) {
            const std::lock_guard<std::mutex> guard(failure_lock);
            if (!failure) failure = std::current_exception();
            stop = true;
        }
    });
    if (failure) std::rethrow_exception(failure);
}

}  // namespace synthkern
