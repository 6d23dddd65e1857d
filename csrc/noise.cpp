#include "noise.hpp"

#include <algorithm>
#include <vector>

#include "kernels.hpp"

namespace synthkern {

namespace {

constexpr int64_t kRows = 32;

void add_row(const Noise& noise, Key key, uint64_t index, float* factors, float* hidden) {
    kernels().add_noise_f32(noise, key, index, factors, hidden);
}

void add_row(const Noise& noise, Key key, uint64_t index, float* factors, double* hidden) {
    kernels().add_noise_f64(noise, key, index, factors, hidden);
}

}  // namespace

template <class T>
void add_noise(const Noise& noise, uint64_t seed, uint64_t start, T* hidden, int64_t batch,
               int threads, const Interrupt& interrupt) {
    parallel((batch + kRows - 1) / kRows, threads, interrupt, [&] {
        std::vector<float> factors(size_t(noise_room(noise.rank)));
        return [&, factors](int64_t chunk, Poll& poll) mutable {
            const int64_t end = std::min(batch, (chunk + 1) * kRows);
            for (int64_t b = chunk * kRows; b < end && !poll.stopped(); ++b)
                add_row(noise, key_of(seed), start + uint64_t(b), factors.data(),
                        hidden + b * noise.dim);
        };
    });
}

template void add_noise(const Noise&, uint64_t, uint64_t, float*, int64_t, int, const Interrupt&);
template void add_noise(const Noise&, uint64_t, uint64_t, double*, int64_t, int, const Interrupt&);

}  // namespace synthkern
