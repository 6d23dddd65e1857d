// One step of matching pursuit on a sample's correlations: part of kernels.cpp.

// correlations -= value * row, and the place of the largest, the first of equal ones; -1 where
// none is above 0. NaN is never the largest. correlations, row: [n].
static int64_t subtract_and_find(float* correlations, float value, const float* row, int64_t n) {
    F32 best = splat(0.0f);
    I32 block_of = I32{} - 1;
    int64_t j = 0;
    for (; j + kVector <= n; j += kVector) {
        const F32 left = load<F32>(correlations + j) - splat(value) * load<F32>(row + j);
        store(correlations + j, left);
        const I32 larger = (I32)(left > best);
        best = (F32)((larger & (I32)left) | (~larger & (I32)best));
        block_of = (larger & (I32)splat(uint32_t(j))) | (~larger & block_of);
    }
    float most = 0.0f;
    int64_t place = -1;
    for (int lane = 0; lane < kVector; ++lane) {
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
