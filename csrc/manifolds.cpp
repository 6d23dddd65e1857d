#include "manifolds.hpp"

#include "held.hpp"
#include "plan.hpp"
#include "stream.hpp"

namespace synthkern {

namespace {

struct Point {
    float x, y;
};

// 2 pi / 2**32, and the polynomials of sine and cosine.
constexpr float kRadians = 0x1.921fb6p-30f;
constexpr float kSine[3] = {-0x1.555552p-3f, 0x1.110c2ap-7f, -0x1.9aca02p-13f};
constexpr float kCosine[3] = {0x1.555554p-5f, -0x1.6c12d4p-10f, 0x1.9bd8d2p-16f};

// Cosine and sine of 2 pi word / 2**32.
Point unit_point(uint32_t word) {
    const uint32_t quarter = (word + (uint32_t{1} << 29)) >> 30;  // modulo 4
    const float x = float(int32_t(word - (quarter << 30))) * kRadians;
    const float t = x * x;
    const float sine = x + x * t * ((kSine[2] * t + kSine[1]) * t + kSine[0]);
    const float cosine = 1.0f - t * (0.5f - t * ((kCosine[2] * t + kCosine[1]) * t + kCosine[0]));
    switch (quarter) {
        case 0:
            return {cosine, sine};
        case 1:
            return {-sine, cosine};
        case 2:
            return {-cosine, -sine};
        default:
            return {sine, -cosine};
    }
}

Point circle_point(const Manifolds& manifolds, uint32_t word) {
    if (manifolds.uniform) return unit_point(word);
    const Point half = unit_point(word >> 1);
    const float a = half.x * manifolds.high, b = half.y * manifolds.low;
    const float aa = a * a, bb = b * b, ab = a * b;
    const float norm = aa + bb;
    return {(aa - bb) / norm, (ab + ab) / norm};
}

}  // namespace

void apply_manifolds(const Plan& plan, Key key, uint64_t index, size_t first,
                     std::vector<int32_t>& indices, std::vector<float>& values) {
    const Manifolds& manifolds = plan.manifolds;
    const size_t end = indices.size();
    size_t leaders = 0;
    for (size_t k = first; k < end; ++k) leaders += manifolds.is_leader[indices[k]];
    if (leaders == 0) return;
    // From the back, so that what is written lies behind what is still to be read.
    const size_t width = size_t(manifolds.dimension) * 2;
    size_t to = end + leaders * (width - 1);
    indices.resize(to);
    values.resize(to);
    for (size_t k = end; k-- > first;) {
        const int32_t feature = indices[k];
        const float value = values[k];
        if (!manifolds.is_leader[feature]) {
            --to;
            indices[to] = feature;
            values[to] = value;
            continue;
        }
        to -= width;
        const float radius = manifolds.dimension > 1 ? value * manifolds.part : value;
        const uint64_t at_index = held_index(plan.sequence, feature, index, key);
        Words words{};
        for (int c = 0; c < manifolds.dimension; ++c) {
            if (c % 4 == 0) words = stream_block(kPhase, uint32_t(feature + c / 4), at_index, key);
            const Point point = circle_point(manifolds, words.w[c % 4]);
            const size_t at = to + 2 * size_t(c);
            indices[at] = feature + 2 * c;
            indices[at + 1] = feature + 2 * c + 1;
            values[at] = radius * point.x;
            values[at + 1] = radius * point.y;
        }
    }
    // Entries that are exactly 0 are none.
    size_t kept = first;
    for (size_t k = first; k < indices.size(); ++k) {
        if (values[k] == 0) continue;
        indices[kept] = indices[k];
        values[kept++] = values[k];
    }
    indices.resize(kept);
    values.resize(kept);
}

}  // namespace synthkern
