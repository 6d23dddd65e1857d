// Which numbers of a row are large: part of kernels.cpp.

// The places j in [0, n) where row[j] * scale[j], or with `magnitude` its absolute value, exceeds
// bounds[j] + bound, NaN among them, are written to `places`, ascending; returns how many. scale,
// bounds: [n], or null for 1 and 0.
template <bool scaled, bool bounded, bool magnitude>
static inline int64_t find_large(const float* row, const float* scale, const float* bounds,
                                 float bound, int64_t n, int32_t* places) {
    constexpr int kStep = 4 * kVector;  // almost none is large, so that a test serves a cache line
    int64_t count = 0, j = 0;
    for (; j + kStep <= n; j += kStep) {
        I32 large[4];
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) {
            const int64_t at = j + c * kVector;
            F32 key = load<F32>(row + at), least = splat(bound);
            if (scaled) key = key * load<F32>(scale + at);
            if (magnitude) key = (F32)((I32)key & 0x7FFFFFFF);
            if (bounded) least = load<F32>(bounds + at) + least;
            large[c] = ~(I32)(key <= least);
        }
        if (bits_of((large[0] | large[1]) | (large[2] | large[3])) == 0) continue;
        for (int c = 0; c < 4; ++c)
            for (uint32_t bits = bits_of(large[c]); bits != 0; bits &= bits - 1)
                places[count++] = int32_t(j) + c * kVector + __builtin_ctz(bits);
    }
    for (; j < n; ++j) {
        float key = scaled ? row[j] * scale[j] : row[j];
        if (magnitude) key = __builtin_fabsf(key);
        const float least = bounded ? bounds[j] + bound : bound;
        if (!(key <= least)) places[count++] = int32_t(j);
    }
    return count;
}

static int64_t find_large_f32(const float* row, const float* scale, const float* bounds,
                              float bound, bool magnitude, int64_t n, int32_t* places) {
    const auto find = bounds != nullptr  ? find_large<false, true, false>
                      : scale != nullptr ? magnitude ? find_large<true, false, true>
                                                     : find_large<true, false, false>
                      : magnitude        ? find_large<false, false, true>
                                         : find_large<false, false, false>;
    return find(row, scale, bounds, bound, n, places);
}
