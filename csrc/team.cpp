#include "team.hpp"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace synthkern {

namespace {

// libgomp's entry point for a parallel region, part of its stable interface since version 4.0.
using GompParallel = void (*)(void (*work)(void*), void* data, unsigned threads, unsigned flags);

int visit_library(dl_phdr_info* info, size_t, void* found) {
    const std::string path = info->dlpi_name == nullptr ? "" : info->dlpi_name;
    if (path.find("libgomp") == std::string::npos) return 0;
    *static_cast<std::string*>(found) = path;
    return path.find("/torch/") != std::string::npos;  // this one, else the last
}

// PyTorch's own threads, where it runs on the GNU OpenMP library: after each of its operations they
// wait for the next one by spinning, and threads of ours beside them would get half a core (batches
// of 1,024 samples of the standard workload in between torch operations, on two cores: 9.2 us a
// sample with threads of our own, 5.7 with these).
GompParallel find_gomp() {
    std::string path;
    dl_iterate_phdr(visit_library, &path);
    if (path.empty()) return nullptr;
    void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    return library == nullptr ? nullptr
                              : reinterpret_cast<GompParallel>(dlsym(library, "GOMP_parallel"));
}

// OpenMP's threads do not survive a fork, and a region that waits for them would hang.
const pid_t home = getpid();

// Whether others want the cores too: a minute's mean of what runs is more than threads of our own.
bool is_machine_busy() {
    double load = 0;
    return getloadavg(&load, 1) == 1 && load > 1.5 * std::thread::hardware_concurrency();
}

// Lets libgomp's threads sleep soon when they wait, once the machine is busy. They look 300,000
// times first, milliseconds in which they hold a core that whoever they wait for may need; 1,000
// times where libgomp manages more threads than there are cores. So an idle team of two is kept
// beside the caller's. What a user has said of waiting stays. A BatchTopK step of 1,024 x 128 x 512
// on two cores beside about six busy processes took 255 to 520 ms, and so 23 to 50; on a quiet
// machine it takes 6.4 ms, and with the team 9.9.
void sleep_soon(GompParallel gomp_parallel) {
    static const bool is_said =
        std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr;
    using Clock = std::chrono::steady_clock;
    static std::atomic<bool> is_told{false};
    static std::atomic<Clock::rep> next_look{0};
    const Clock::rep now = Clock::now().time_since_epoch().count();
    if (is_said || is_told || now < next_look) return;
    next_look = now + Clock::duration(std::chrono::seconds(1)).count();
    if (!is_machine_busy() || is_told.exchange(true)) return;
    // Signals are for the threads that were there before.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        std::thread([=] {
            try {
                // libgomp ends the process where it gets no thread.
                std::thread([] {}).join();
            } catch (const std::system_error&) {
                return;
            }
            gomp_parallel([](void*) {}, nullptr, 2, 0);
            for (;;) pause();
        }).detach();
    } catch (const std::system_error&) {
        // No thread is to be had: waiting takes longer.
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void run_threads(int threads, const std::function<void()>& work) {
    std::vector<std::thread> helpers;
    try {
        for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
    } catch (const std::system_error&) {
        // Fewer threads than asked for: those that started share the work.
    }
    work();
    for (std::thread& helper : helpers) helper.join();
}

}  // namespace

void run_team(int threads, const std::function<void()>& work) {
    // More never help, and libgomp ends the process where the system refuses it a thread.
    constexpr int most = 1024;
    threads = std::min(threads, most);
    if (threads < 2) {
        work();
        return;
    }
    static const GompParallel gomp_parallel = find_gomp();
    if (gomp_parallel != nullptr && getpid() == home) {
        const auto call = [](void* data) { (*static_cast<const std::function<void()>*>(data))(); };
        gomp_parallel(call, const_cast<std::function<void()>*>(&work), unsigned(threads), 0);
        // After the threads that are needed: the system may refuse more.
        sleep_soon(gomp_parallel);
    } else {
        run_threads(threads, work);
    }
}

}  // namespace synthkern
