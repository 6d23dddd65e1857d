// The kernels, included once per instruction set with SYNTHKERN_ISA naming the variant. No
// standard templates in here: their instances would be shared by the linker between variants.


#include "kernels.hpp"
#include "lanes.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace synthkern {
namespace SYNTHKERN_ISA {

// ---- hidden activations -----------------------------------------------------------------------

#if defined(__AVX512F__)
typedef float Wide __attribute__((vector_size(64)));
static inline Wide fma(Wide a, Wide b, Wide c) { return (Wide)_mm512_fmadd_ps(a, b, c); }
#elif defined(__AVX2__)
typedef float Wide __attribute__((vector_size(32)));
static inline Wide fma(Wide a, Wide b, Wide c) { return (Wide)_mm256_fmadd_ps(a, b, c); }
#elif defined(__aarch64__)
typedef float Wide __attribute__((vector_size(16)));
static inline Wide fma(Wide a, Wide b, Wide c) { return vfmaq_f32(c, a, b); }
#else
typedef float Wide __attribute__((vector_size(16)));
static inline Wide fma(Wide a, Wide b, Wide c) {
    for (int lane = 0; lane < 4; ++lane) c[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
    return c;
}
#endif
static inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }

static inline Wide spread(float x) { return x - Wide{}; }

constexpr int kWide = sizeof(Wide) / sizeof(float);
constexpr int kColumns = 12;  // accumulators held in registers: 12 of 16, the rest for operands

template <int columns>
static inline void gather_columns(const int32_t* indices, const float* values, int64_t count,
                                  const float* vectors, int64_t dim, const float* bias,
                                  float* hidden) {
    Wide sum[columns];
    for (int c = 0; c < columns; ++c) sum[c] = load<Wide>(bias + c * kWide);
    for (int64_t i = 0; i < count; ++i) {
        const float* row = vectors + int64_t{indices[i]} * dim;
        const Wide value = spread(values[i]);
        for (int c = 0; c < columns; ++c) {
            // The next pass reads the same row just behind this one.
            if (c * kWide % 16 == 0) __builtin_prefetch(row + (columns + c) * kWide);
            sum[c] = fma(value, load<Wide>(row + c * kWide), sum[c]);
        }
    }
    for (int c = 0; c < columns; ++c) store(hidden + c * kWide, sum[c]);
}

static void gather_f32(const int32_t* indices, const float* values, int64_t count,
                       const float* vectors, int64_t dim, const float* bias, float* hidden) {
    int64_t d = 0;
    for (; d + kColumns * kWide <= dim; d += kColumns * kWide)
        gather_columns<kColumns>(indices, values, count, vectors + d, dim, bias + d, hidden + d);
    for (; d + kWide <= dim; d += kWide)
        gather_columns<1>(indices, values, count, vectors + d, dim, bias + d, hidden + d);
    for (; d < dim; ++d) {
        float sum = bias[d];
        for (int64_t i = 0; i < count; ++i)
            sum = fma(values[i], vectors[indices[i] * dim + d], sum);
        hidden[d] = sum;
    }
}

static void gather_f64(const int32_t* indices, const double* values, int64_t count,
                       const double* vectors, int64_t dim, const double* bias, double* hidden) {
    for (int64_t d = 0; d < dim; ++d) hidden[d] = bias[d];
    for (int64_t i = 0; i < count; ++i) {
        const double* row = vectors + indices[i] * dim;
        for (int64_t d = 0; d < dim; ++d) hidden[d] = fma(values[i], row[d], hidden[d]);
    }
}

// ---- the screen -------------------------------------------------------------------------------

typedef uint16_t U16x16 __attribute__((vector_size(32)));
typedef int16_t I16x16 __attribute__((vector_size(32)));

// A sample's factors, quantised for the screen.
struct Quantised {
    int32_t* pair;   // [pairs]: two signed bytes, twice, as a register broadcasts them
    int16_t offset;  // 64 times their sum, modulo 2**16: what the loadings' offset adds
    int16_t margin;  // bound on everything that was rounded, in units of 1 / (a * b)
    bool screened;   // false where the bound is void and every feature must be looked at
};

// For each coarse byte the largest normal that it leaves possible, in nibble units, rounded up:
// by the high nibble, and where that is 15 by the low one. Normals below zero count as zero, and
// byte 255 leaves everything possible.
alignas(16) static const int8_t kHighNibble[16] = {0,  0,  0,  0,  0,  0,  0,  0,
                                                   8, 15, 23, 32, 42, 55, 73, 0};
alignas(16) static const int8_t kLowNibble[16] = {74, 76, 77, 79,  81,  83,  86,  88,
                                                  91, 94, 97, 102, 107, 114, 126, 127};

#if defined(__AVX2__)

static inline __m256i nibble_bound(const uint8_t* bytes, __m128i* certain) {
    const __m128i byte = load<__m128i>(bytes), nibble = _mm_set1_epi8(15);
    const __m128i high = _mm_and_si128(_mm_srli_epi16(byte, 4), nibble);
    const __m128i low = _mm_and_si128(byte, nibble);
    const __m128i bound =
        _mm_blendv_epi8(_mm_shuffle_epi8(load<__m128i>(kHighNibble), high),
                        _mm_shuffle_epi8(load<__m128i>(kLowNibble), low),
                        _mm_cmpeq_epi8(high, nibble));
    *certain = _mm_cmpeq_epi8(byte, _mm_set1_epi8(-1));
    return _mm256_cvtepi8_epi16(bound);
}

static inline uint32_t may_fire(I16x16 product, const Quantised& q, const int16_t* threshold,
                                const int16_t* noise, const uint8_t* bytes) {
    __m128i certain;
    const __m256i eta = _mm256_mullo_epi16(nibble_bound(bytes, &certain), load<__m256i>(noise));
    const __m256i s = _mm256_sub_epi16((__m256i)product, _mm256_set1_epi16(q.offset));
    const __m256i most =
        _mm256_adds_epi16(_mm256_adds_epi16(s, _mm256_set1_epi16(q.margin)), eta);
    const __m256i above = _mm256_cmpgt_epi16(most, load<__m256i>(threshold));
    const __m128i packed =
        _mm_packs_epi16(_mm256_castsi256_si128(above), _mm256_extracti128_si256(above, 1));
    return uint32_t(_mm_movemask_epi8(_mm_or_si128(packed, certain)));
}

static inline I16x16 add_pair(I16x16 sum, const uint8_t* loading, int32_t pair) {
    return (I16x16)_mm256_add_epi16(
        (__m256i)sum, _mm256_maddubs_epi16(load<__m256i>(loading), _mm256_set1_epi32(pair)));
}

#else

static inline int saturate(int x) { return x > 32767 ? 32767 : x < -32768 ? -32768 : x; }

static inline uint32_t may_fire(I16x16 product, const Quantised& q, const int16_t* threshold,
                                const int16_t* noise, const uint8_t* bytes) {
    uint32_t mask = 0;
    for (int lane = 0; lane < kBlock; ++lane) {
        const int byte = bytes[lane];
        const int bound = byte < 240 ? kHighNibble[byte >> 4] : kLowNibble[byte & 15];
        const int s = int16_t(product[lane] - q.offset);
        const int most = saturate(saturate(s + q.margin) + int16_t(bound * noise[lane]));
        mask |= uint32_t(most > threshold[lane] || byte == 255) << lane;
    }
    return mask;
}

static inline I16x16 add_pair(I16x16 sum, const uint8_t* loading, int32_t pair) {
    const U16x16 both = load<U16x16>(loading);
    const uint16_t first = uint16_t(int8_t(pair)), second = uint16_t(int8_t(pair >> 8));
    return (I16x16)((U16x16)sum + (both & 255) * first + (both >> 8) * second);
}

#endif

// The sixteen bytes of eight coarse blocks: bytes[8][16] of words w[4][8].
static inline void transpose_bytes(const Words8& words, uint8_t* bytes) {
#if defined(__AVX2__)
    const __m256i a = (__m256i)words.w[0], b = (__m256i)words.w[1], c = (__m256i)words.w[2],
                  d = (__m256i)words.w[3];
    const __m256i ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
    const __m256i cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
    const __m256i rows[4] = {
        _mm256_unpacklo_epi64(ab_low, cd_low), _mm256_unpackhi_epi64(ab_low, cd_low),
        _mm256_unpacklo_epi64(ab_high, cd_high), _mm256_unpackhi_epi64(ab_high, cd_high)};
    for (int k = 0; k < 4; ++k) {
        store(bytes + 16 * k, _mm256_castsi256_si128(rows[k]));
        store(bytes + 16 * (k + 4), _mm256_extracti128_si256(rows[k], 1));
    }
#else
    for (int lane = 0; lane < kLanes; ++lane)
        for (int k = 0; k < 16; ++k)
            bytes[16 * lane + k] = uint8_t(words.w[k / 4][lane] >> (8 * (k % 4)));
#endif
}

static inline uint32_t at_most(const uint8_t* bytes, const uint8_t* last) {
#if defined(__AVX2__)
    const __m128i byte = load<__m128i>(bytes);
    return uint32_t(
        _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(byte, load<__m128i>(last)), byte)));
#else
    uint32_t mask = 0;
    for (int lane = 0; lane < kBlock; ++lane) mask |= uint32_t(bytes[lane] <= last[lane]) << lane;
    return mask;
#endif
}

// ---- the sampler ------------------------------------------------------------------------------

class Sampler final : public GroupSampler {
  public:
    explicit Sampler(const Plan& plan) : plan_(plan) {
        const Screen& screen = plan.screen;
        survivors_ = static_cast<int32_t*>(
            survivor_memory_.reserve(kGroup * survivor_stride() * int64_t{sizeof(int32_t)}));
        if (plan.copula()) {
            factors_ = static_cast<float*>(
                factor_memory_.reserve(kGroup * plan.padded_rank * int64_t{sizeof(float)}));
            pairs_ = static_cast<int32_t*>(
                pair_memory_.reserve(kGroup * (screen.pairs + 1) * int64_t{sizeof(int32_t)}));
        }
        if (plan.triangular)
            dots_ = static_cast<float*>(
                dot_memory_.reserve(kGroup * survivor_stride() * int64_t{sizeof(float)}));
        for (int64_t k = 0; k < plan.forest.num_nodes; ++k)
            if (plan.forest.group[k] >= num_groups_) num_groups_ = plan.forest.group[k] + 1;
        best_ = static_cast<int64_t*>(
            best_memory_.reserve((num_groups_ + 1) * int64_t{sizeof(int64_t)}));
        for (int64_t g = 0; g < num_groups_; ++g) best_[g] = -1;
    }

    void sample(Key key, uint64_t index, int count, Entries* out) override {
        key_ = key;
        for (int s = 0; s < count; ++s) num_survivors_[s] = 0;
        if (plan_.copula())
            for (int s = 0; s < count; ++s) draw_factors(index + uint64_t(s), s);
        if (plan_.triangular)
            look_at_all(count);
        else if (count == kGroup)
            screen<kGroup>(index);
        else
            for (int s = 0; s < count; ++s) screen<1>(index + uint64_t(s), s);
        for (int s = 0; s < count; ++s) {
            out[s].size = 0;
            evaluate(survivors(s), plan_.triangular ? dots_ + s * survivor_stride() : nullptr,
                     num_survivors_[s], factors(s), index + uint64_t(s), out[s]);
            if (plan_.forest.num_nodes > 0) walk(factors(s), index + uint64_t(s), out[s]);
        }
    }

  private:
    int64_t survivor_stride() const { return plan_.screen.num_blocks * kBlock; }
    int32_t* survivors(int s) { return survivors_ + s * survivor_stride(); }
    float* factors(int s) { return factors_ + s * plan_.padded_rank; }

    void draw_factors(uint64_t index, int s) {
        float* factor = factors(s);
        const int64_t rank = plan_.rank;
        for (int64_t base = 0; base < plan_.padded_rank; base += 4 * kLanes) {
            const U32x8 first = splat(uint32_t(base / 4)) + U32x8{0, 1, 2, 3, 4, 5, 6, 7};
            const Words8 words = stream_blocks(kFactor, first, index, key_);
            for (int w = 0; w < 4; ++w) {
                if (base + w >= rank) break;
                const F32x8 normal = normals(words.w[w]);
                for (int lane = 0; lane < kLanes; ++lane) {
                    const int64_t k = base + 4 * lane + w;
                    if (k < rank) factor[k] = normal[lane];
                }
            }
        }
        for (int64_t k = rank; k < plan_.padded_rank; ++k) factor[k] = 0;
        if (!plan_.triangular) quantise(factor, s);
    }

    // Bounds by Cauchy and Schwarz: with loading = q / a + dq and factor = e / b + de,
    // |loading . factor - q . e / (a b)| <= |dq| |factor| + |q / a| |de|. The float32 rounding of
    // the exact test is below (rank / 8 + 8) 2**-23 of the sizes that it adds up.
    void quantise(const float* factor, int s) {
        const Screen& screen = plan_.screen;
        Quantised& q = quantised_[s];
        q.pair = pairs_ + int64_t{s} * (screen.pairs + 1);
        float square = 0, error_square = 0, quantised_square = 0;
        int sum = 0;
        for (int pair = 0; pair < screen.pairs; ++pair) {
            int bytes[2] = {0, 0};
            for (int side = 0; side < 2 && 2 * pair + side < plan_.rank; ++side) {
                const float x = factor[2 * pair + side], units = x * screen.factor_units;
                int e = int(units + (units < 0 ? -0.5f : 0.5f));
                e = e > 127 ? 127 : e < -127 ? -127 : e;
                const float error = x - float(e) / screen.factor_units;
                square += x * x;
                error_square += error * error;
                quantised_square += float(e * e);
                bytes[side] = e;
                sum += e;
            }
            const uint32_t both = uint32_t(bytes[0] & 255) | uint32_t(bytes[1] & 255) << 8;
            q.pair[pair] = int32_t(both | both << 16);
        }
        q.offset = int16_t(uint16_t(64 * sum));
        const float norm = __builtin_sqrtf(square), units = screen.loading_units * screen.factor_units;
        const float rounding = float(plan_.padded_rank / 8 + 8) * 0x1p-23f *
                               (screen.loading_norm * norm + screen.slack);
        const float margin = units * 1.001f *
                             (screen.loading_error * norm +
                              screen.loading_norm * __builtin_sqrtf(error_square) + rounding);
        const float largest =
            screen.loading_norm * screen.loading_units * __builtin_sqrtf(quantised_square);
        q.screened = margin < 32000 && largest < 32000;
        q.margin = q.screened ? int16_t(margin + 2) : 0;
    }

    template <int count>
    void screen(uint64_t index, int first = 0) {
        const Screen& screen = plan_.screen;
        alignas(32) uint8_t bytes[count][kLanes][kBlock];
        for (int64_t base = 0; base < screen.num_blocks; base += kLanes) {
            const int blocks =
                screen.num_blocks - base < kLanes ? int(screen.num_blocks - base) : kLanes;
            // The table of blocks is padded to a multiple of eight.
            const U32x8 element = load<U32x8>(screen.block + base);
            for (int s = 0; s < count; ++s)
                transpose_bytes(stream_blocks(kCoarse, element, index + uint64_t(s), key_),
                                bytes[s][0]);
            for (int k = 0; k < blocks; ++k) {
                const int64_t block = base + k;
                if (plan_.copula()) {
                    I16x16 product[count] = {};
                    const uint8_t* loading = screen.loading + block * screen.pairs * 2 * kBlock;
                    for (int pair = 0; pair < screen.pairs; ++pair, loading += 2 * kBlock)
                        for (int s = 0; s < count; ++s)
                            product[s] =
                                add_pair(product[s], loading, quantised_[first + s].pair[pair]);
                    for (int s = 0; s < count; ++s) {
                        const Quantised& q = quantised_[first + s];
                        const uint32_t mask =
                            q.screened ? may_fire(product[s], q, screen.threshold + block * kBlock,
                                                  screen.noise + block * kBlock, bytes[s][k])
                                       : 0xFFFFu;
                        keep(first + s, block, mask);
                    }
                } else {
                    for (int s = 0; s < count; ++s)
                        keep(first + s, block,
                             at_most(bytes[s][k], screen.last_byte + block * kBlock));
                }
            }
        }
    }

    inline void keep(int s, int64_t block, uint32_t mask) {
        mask &= plan_.screen.mask[block];
        int32_t* to = survivors(s);
        while (mask) {
            to[num_survivors_[s]++] =
                int32_t(plan_.screen.block[block] * kBlock + uint32_t(__builtin_ctz(mask)));
            mask &= mask - 1;
        }
    }

    // A full correlation matrix: every loading counts, so the products themselves are computed,
    // a row of the Cholesky factor at a time for the whole group.
    void look_at_all(int count) {
        for (int64_t block = 0; block < plan_.screen.num_blocks; ++block)
            for (int s = 0; s < count; ++s) keep(s, block, 0xFFFFu);
        for (int64_t i = 0; i < num_survivors_[0]; ++i)
            for (int s = 0; s < count; ++s)
                dots_[s * survivor_stride() + i] = dot(survivors_[i], factors(s));
    }

    float dot(int32_t feature, const float* factor) const {
        const float* row = plan_.factor + int64_t{feature} * plan_.padded_rank;
        // Behind the diagonal of a triangular factor there are only zeros to add.
        const int64_t length =
            plan_.triangular ? (feature / kLanes + 1) * int64_t{kLanes} : plan_.padded_rank;
        F32x8 s = splat(0.0f);
        for (int64_t k = 0; k < length; k += kLanes)
            s = s + load<F32x8>(row + k) * load<F32x8>(factor + k);
        return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    }

    // Appends those of the given features that fire with a value above zero; `node` of an entry
    // is its place in `feature`.
    void evaluate(const int32_t* feature, const float* dots, int64_t count, const float* factor,
                  uint64_t index, Entries& out) {
        out.reserve(out.size + count);
        for (int64_t base = 0; base < count; base += kLanes) {
            const int lanes = count - base < kLanes ? int(count - base) : kLanes;
            int32_t ids[kLanes];
            for (int lane = 0; lane < kLanes; ++lane)
                ids[lane] = feature[base + (lane < lanes ? lane : 0)];
            const U32x8 id = load<U32x8>(ids);
            const Words8 own = stream_blocks(kFeature, id, index, key_);
            const uint32_t fired = fires(ids, id, own.w[0], dots ? dots + base : nullptr, lanes,
                                         factor, index);
            if (!fired) continue;
            const F32x8 normal = normals(own.w[1]);
            for (uint32_t rest = fired; rest; rest &= rest - 1) {
                const int lane = __builtin_ctz(rest);
                const float value = plan_.mean[ids[lane]] + plan_.std[ids[lane]] * normal[lane];
                if (!(value > 0)) continue;
                out.feature[out.size] = ids[lane];
                out.value[out.size] = value;
                out.node[out.size] = int32_t(base + lane);
                out.priority[out.size] = uint64_t{own.w[2][lane]} << 32 | own.w[3][lane];
                ++out.size;
            }
        }
    }

    inline uint32_t fires(const int32_t* ids, U32x8 id, U32x8 fine, const float* dots, int lanes,
                          const float* factor, uint64_t index) {
        const Words8 coarse = stream_blocks(kCoarse, id >> 4, index, key_);
        const U32x8 which = (id >> 2) & 3;
        U32x8 word = coarse.w[0];
        for (uint32_t w = 1; w < 4; ++w) {
            const U32x8 here = (U32x8)(which == w);
            word = (word & ~here) | (coarse.w[w] & here);
        }
        const U32x8 byte = (word >> ((id & 3) * 8)) & 255;
        uint32_t fired = 0;
        if (!plan_.copula()) {
            for (int lane = 0; lane < lanes; ++lane) {
                const int64_t bits = int64_t{byte[lane]} << 32 | fine[lane];
                fired |= uint32_t(bits < plan_.fire_below[ids[lane]]) << lane;
            }
            return fired;
        }
        const F32x8 noise = normals(byte << 24 | fine >> 8);
        for (int lane = 0; lane < lanes; ++lane) {
            const float s = dots ? dots[lane] : dot(ids[lane], factor);
            const float x = s + plan_.noise_scale[ids[lane]] * noise[lane];
            fired |= uint32_t(x > plan_.threshold[ids[lane]]) << lane;
        }
        return fired;
    }

    // Walks the first forest below what is active, a level at a time.
    void walk(const float* factor, uint64_t index, Entries& out) {
        const Forest& forest = plan_.forest;
        for (int64_t i = 0; i < out.size; ++i) out.node[i] = forest.node_of[out.feature[i]];
        if (forest.tops_grouped) out.size = keep_best(out, 0, 0);
        for (int64_t begin = 0, end = out.size; begin < end; begin = end, end = out.size) {
            int64_t count = 0;
            for (int64_t i = begin; i < end; ++i)
                if (out.node[i] >= 0)
                    count += forest.child_end[out.node[i]] - forest.child_begin[out.node[i]];
            if (count == 0) return;
            int32_t* child = static_cast<int32_t*>(
                child_memory_.reserve(count * int64_t{3 * sizeof(int32_t)}));
            int32_t* node = child + count;
            float* ratio = reinterpret_cast<float*>(node + count);
            count = 0;
            for (int64_t i = begin; i < end; ++i) {
                const int32_t gate = out.node[i];
                if (gate < 0) continue;
                const float scale = out.value[i] / plan_.mean[out.feature[i]];
                for (int32_t k = forest.child_begin[gate]; k < forest.child_end[gate]; ++k) {
                    child[count] = forest.feature[k];
                    node[count] = k;
                    ratio[count++] = forest.scaled[k] ? scale : 1.0f;
                }
            }
            evaluate(child, nullptr, count, factor, index, out);
            int64_t kept = end;
            for (int64_t i = end; i < out.size; ++i) {
                const int32_t place = out.node[i];
                const float value = out.value[i] * ratio[place];
                if (!(value > 0)) continue;
                out.feature[kept] = out.feature[i];
                out.value[kept] = value;
                out.node[kept] = node[place];
                out.priority[kept++] = out.priority[i];
            }
            out.size = kept;
            out.size = keep_best(out, end, end);
        }
    }

    // Of each exclusive group among the entries from `begin` only the greatest priority stays.
    int64_t keep_best(Entries& out, int64_t begin, int64_t kept) {
        const int32_t* group = plan_.forest.group;
        bool any = false;
        for (int64_t i = begin; i < out.size; ++i) {
            const int32_t node = out.node[i], g = node < 0 ? -1 : group[node];
            if (g < 0) continue;
            any = true;
            const int64_t b = best_[g];
            if (b < 0 || out.priority[i] > out.priority[b] ||
                (out.priority[i] == out.priority[b] && node < out.node[b]))
                best_[g] = i;
        }
        if (!any) return out.size;
        const int64_t size = out.size;
        for (int64_t i = begin; i < size; ++i) {
            const int32_t node = out.node[i], g = node < 0 ? -1 : group[node];
            if (g >= 0 && best_[g] != i) continue;
            out.feature[kept] = out.feature[i];
            out.value[kept] = out.value[i];
            out.node[kept] = node;
            out.priority[kept++] = out.priority[i];
        }
        for (int64_t i = begin; i < kept; ++i) {
            const int32_t node = out.node[i], g = node < 0 ? -1 : group[node];
            if (g >= 0) best_[g] = -1;
        }
        return kept;
    }

    const Plan& plan_;
    Key key_{};
    int32_t* survivors_ = nullptr;
    float* factors_ = nullptr;
    float* dots_ = nullptr;
    int32_t* pairs_ = nullptr;
    int64_t* best_ = nullptr;
    int64_t num_groups_ = 0;
    int64_t num_survivors_[kGroup] = {};
    Quantised quantised_[kGroup] = {};
    Scratch survivor_memory_, factor_memory_, dot_memory_, pair_memory_, best_memory_,
        child_memory_;
};

static GroupSampler* make_sampler(const Plan& plan) { return new Sampler(plan); }

}  // namespace SYNTHKERN_ISA
}  // namespace synthkern
