// One step of matching pursuit on a sample's correlations: part of kernels.cpp.

// correlations -= value * row, and the place of the largest, the first of equal ones; -1 where
// none is above 0. NaN is never the largest. correlations, row: [n].
static int64_t subtract_and_find(float* correlations, float value, const float* row, int64_t n) {
    F32x8 best = splat(0.0f);
    I32x8 block_of = {-1, -1, -1, -1, -1, -1, -1, -1};
    int64_t j = 0;
    for (; j + kLanes <= n; j += kLanes) {
        const F32x8 left = load<F32x8>(correlations + j) - splat(value) * load<F32x8>(row + j);
        store(correlations + j, left);
        const I32x8 larger = (I32x8)(left > best);
        best = (F32x8)((larger & (I32x8)left) | (~larger & (I32x8)best));
        block_of = (larger & (I32x8)splat(uint32_t(j))) | (~larger & block_of);
    }
    float most = 0.0f;
    int64_t place = -1;
    for (int lane = 0; lane < kLanes; ++lane) {
        const int64_t at = int64_t{block_of[lane]} + lane;
        if (block_of[lane] < 0) continue;
        if (best[lane] > most || (best[lane] == most && at < place)) {
            most = best[lane];
            place = at;
        }
    }
    for (; j < n; ++j) {
        correlations[j] -= value * row[j];
        if (correlations[j] > most) {
            most = correlations[j];
            place = j;
        }
    }
    return place;
}
