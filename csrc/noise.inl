// Noise of one sample's hidden activations: part of kernels.cpp.

// Normals that are drawn together: of two vectors of blocks, which do not wait for each other.
constexpr int kNoiseTile = 2 * 4 * kVector;
static_assert(noise_room(0) % kNoiseTile == 0, "a tile of factors must have room");

// Normals number first ... first + kNoiseTile - 1 of a purpose, four to a block of the stream.
static inline void draw_normals(uint32_t purpose, int64_t first, uint64_t index, Key key,
                                float* normal) {
    U32 element[2];
    const uint64_t indices[2] = {index, index};
    for (int k = 0; k < 2; ++k)
        element[k] = order_blocks(splat(uint32_t(first / 4 + k * kVector)) + kNumbers);
    Blocks words[2];
    draw<2>(purpose, element, indices, key, words);
    // The words of a block beside each other are those of four components.
    alignas(64) uint32_t word[kNoiseTile];
    for (int k = 0; k < 2; ++k)
        transpose_bytes(words[k], reinterpret_cast<uint8_t*>(word + k * 4 * kVector));
#pragma GCC unroll 8
    for (int k = 0; k < kNoiseTile; k += kVector) store(normal + k, normals(load<U32>(word + k)));
}

// hidden[d] = fma(factor[k, d], normal of factor k, hidden[d]), k ascending, then
// fma(std[d], normal of component d, hidden[d]). factors: [noise_room(rank)], scratch.
template <class T, class Add>
static inline void add_noise(const Noise& noise, Key key, uint64_t index, float* factors, T* hidden,
                             Add add) {
    for (int64_t k = 0; k < noise.rank; k += kNoiseTile)
        draw_normals(kHiddenNoiseFactor, k, index, key, factors + k);
    alignas(64) float normal[kNoiseTile];
    for (int64_t first = 0; first < noise.dim; first += kNoiseTile) {
        draw_normals(kHiddenNoise, first, index, key, normal);
        const int64_t left = noise.dim - first;
        add(first, left < kNoiseTile ? left : int64_t{kNoiseTile}, factors, normal, hidden + first);
    }
}

static void add_noise_f32(const Noise& noise, Key key, uint64_t index, float* factors,
                          float* hidden) {
    add_noise(noise, key, index, factors, hidden,
              [&](int64_t first, int64_t count, const float* z, const float* own, float* to) {
                  const float *std = noise.std + first, *factor = noise.factor + first;
                  int64_t d = 0;
                  for (; d + kWide <= count; d += kWide) {
                      Wide sum = load<Wide>(to + d);
                      for (int64_t k = 0; k < noise.rank; ++k)
                          sum = fma(load<Wide>(factor + k * noise.dim + d), spread(z[k]), sum);
                      store(to + d, fma(load<Wide>(std + d), load<Wide>(own + d), sum));
                  }
                  for (; d < count; ++d) {
                      float sum = to[d];
                      for (int64_t k = 0; k < noise.rank; ++k)
                          sum = fma(factor[k * noise.dim + d], z[k], sum);
                      to[d] = fma(std[d], own[d], sum);
                  }
              });
}

// The same numbers, added with the digits of float64.
static void add_noise_f64(const Noise& noise, Key key, uint64_t index, float* factors,
                          double* hidden) {
    add_noise(noise, key, index, factors, hidden,
              [&](int64_t first, int64_t count, const float* z, const float* own, double* to) {
                  const float *std = noise.std + first, *factor = noise.factor + first;
                  for (int64_t d = 0; d < count; ++d) {
                      double sum = to[d];
                      for (int64_t k = 0; k < noise.rank; ++k)
                          sum = fma(double(factor[k * noise.dim + d]), double(z[k]), sum);
                      to[d] = fma(double(std[d]), double(own[d]), sum);
                  }
              });
}
