// Memory of the kernels, compiled once for the baseline.
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels.hpp"

namespace synthkern {

namespace {

template <class T>
void grow(T*& data, int64_t capacity) {
    void* larger = std::realloc(data, size_t(capacity) * sizeof(T));
    if (larger == nullptr) throw std::bad_alloc();
    data = static_cast<T*>(larger);
}

}  // namespace

Entries::~Entries() {
    std::free(feature);
    std::free(value);
    std::free(share);
    std::free(node);
    std::free(priority);
}

void Entries::reserve(int64_t count) {
    if (count <= capacity_) return;
    const int64_t capacity = count + count / 2 + 64;
    grow(feature, capacity);
    grow(value, capacity);
    grow(share, capacity);
    grow(node, capacity);
    grow(priority, capacity);
    capacity_ = capacity;
}

Scratch::~Scratch() { std::free(data_); }

void* Scratch::reserve(int64_t bytes) {
    if (bytes > capacity_) {
        std::free(data_);
        capacity_ = 0;
        // Whole cache lines, as aligned_alloc wants; at least one, so that the pointer is valid.
        const int64_t size = (bytes + bytes / 2 + 64) / 64 * 64;
        data_ = std::aligned_alloc(64, size_t(size));
        if (data_ == nullptr) throw std::bad_alloc();
        capacity_ = size;
    }
    return data_;
}

GroupSampler::~GroupSampler() = default;

}  // namespace synthkern
