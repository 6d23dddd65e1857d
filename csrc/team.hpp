// The threads that work is split over.
#pragma once

#include <functional>

namespace synthkern {

// Calls work() at the same time on as many as `threads` threads, the caller's among them, and
// returns when all have ended; work must not throw. Fewer may come than were asked for.
void run_team(int threads, const std::function<void()>& work);

}  // namespace synthkern
