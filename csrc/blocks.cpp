#include "blocks.hpp"

#include <cstdlib>
#include <deque>
#include <mutex>
#include <new>

namespace synthkern {

namespace {

// What the C library has back it may give to the system, which then pages it in anew: of a
// BatchTopK step of 1,024 x 768 x 4,096 up to 2,300 pages, 5 ms of 33, depending on the sizes of
// other arrays.
constexpr size_t kMostBytes = size_t{256} << 20;

struct Block {
    void* data;
    size_t bytes;
};

struct Blocks {
    std::mutex mutex;
    std::deque<Block> idle;  // the oldest first
    size_t bytes = 0;
};

// Never destroyed: arrays may outlive this library's own end.
Blocks& kept() {
    static Blocks* blocks = new Blocks;
    return *blocks;
}

}  // namespace

// Both go without the kept blocks where another thread is at them: in a process that was forked
// meanwhile it would hold the lock for ever.
void* take_block(size_t bytes) {
    Blocks& blocks = kept();
    if (std::unique_lock lock(blocks.mutex, std::try_to_lock); lock) {
        for (auto it = blocks.idle.rbegin(); it != blocks.idle.rend(); ++it) {
            if (it->bytes != bytes) continue;
            void* data = it->data;
            blocks.bytes -= bytes;
            blocks.idle.erase(std::next(it).base());
            return data;
        }
    }
    void* data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (data == nullptr) throw std::bad_alloc();
    return data;
}

void give_block(void* block, size_t bytes) {
    Blocks& blocks = kept();
    std::unique_lock lock(blocks.mutex, std::try_to_lock);
    if (!lock || bytes > kMostBytes) {
        std::free(block);
        return;
    }
    for (; blocks.bytes + bytes > kMostBytes; blocks.idle.pop_front()) {
        std::free(blocks.idle.front().data);
        blocks.bytes -= blocks.idle.front().bytes;
    }
    blocks.idle.push_back({block, bytes});
    blocks.bytes += bytes;
}

}  // namespace synthkern
