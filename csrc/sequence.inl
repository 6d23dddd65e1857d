// Words that persist along sequences, and where they were drawn: part of kernels.cpp. The
// definition is in synthkern/stream/__init__.py.

// Blocks of the stream, each lane of a sample of its own. Numbers are held as in draw().
static inline void draw_each(uint32_t purpose, U32 element, U32 low, U32 high, Key key,
                             Blocks* blocks) {
    U64 c[2][4];
#pragma GCC unroll 2
    for (int k = 0; k < 2; ++k) {
        c[k][0] = (U64)element >> (k * 32);
        c[k][1] = wide(purpose);
        c[k][2] = (U64)low >> (k * 32);
        c[k][3] = (U64)high >> (k * 32);
    }
#pragma GCC unroll 10
    for (int round = 0; round < kPhiloxRounds; ++round) {
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k) {
            const U64 first = multiply(c[k][0], kPhiloxMultiplier0);
            const U64 next = multiply(c[k][2], kPhiloxMultiplier1);
            c[k][0] = (next >> 32) ^ c[k][1] ^ wide(key.low);
            c[k][2] = (first >> 32) ^ c[k][3] ^ wide(key.high);
            c[k][1] = next;
            c[k][3] = first;
        }
        key.low += kPhiloxWeyl0;
        key.high += kPhiloxWeyl1;
    }
    for (int w = 0; w < 4; ++w) blocks->w[w] = (U32)((c[0][w] & 0xFFFFFFFFu) | c[1][w] << 32);
}

// The first byte of features' firing words, of their coarse blocks.
static inline U32 bytes_of(U32 feature, const Blocks& coarse) {
    const U32 quarter = feature >> 2 & 3;
    U32 word = coarse.w[0];
    for (uint32_t w = 1; w < 4; ++w) {
        const U32 is = (U32)(quarter == splat(w));
        word = (word & ~is) | (coarse.w[w] & is);
    }
    return word >> (8 * (feature & 3)) & 255;
}

// log2(word / 2**32), off by 4e-5: about where thresholds are, which are then looked at.
static inline F32 logarithms(U32 word) {
    const F32 x = __builtin_convertvector((I32)(word >> 1), F32) + splat(0.5f);
    const U32 bits = (U32)x;
    const F32 exponent = __builtin_convertvector((I32)(bits >> 23), F32) - splat(158.0f);
    const F32 m = (F32)((bits & 0x7FFFFFu) | 0x3F800000u) - splat(1.0f);
    F32 sum = splat(0.0434289f);
    sum = sum * m - splat(0.1877226f);
    sum = sum * m + splat(0.4087217f);
    sum = sum * m - splat(0.7057042f);
    sum = sum * m + splat(1.4412674f);
    return exponent + (sum * m + splat(0.0000319f));
}

// The words of one sequence after the other that a thread's sampler needs.
class Held {
  public:
    explicit Held(const Plan& plan) : plan_(plan), law_(plan.sequence.law) {
        if (!plan.sequences()) return;
        const int64_t lanes = plan.screen.num_blocks * kBlock, padded = plan.padded_rank + kBlock;
        const int64_t features = plan.num_features + 2 * kBlock;
        span_ = static_cast<Span*>(span_memory_.reserve(features * int64_t{sizeof(Span)}));
        for (int64_t j = 0; j < features; ++j) span_[j].stamp = 0;
        const int64_t words = 2 * lanes + 2 * plan.screen.num_blocks + 2 * kBlock + 3 * padded;
        next_ = static_cast<uint32_t*>(memory_.reserve(4 * words));
        period_ = next_ + lanes;
        renewing_ = period_ + lanes;
        renewed_ = renewing_ + plan.screen.num_blocks + kBlock;
        factor_next_ = renewed_ + plan.screen.num_blocks + kBlock;
        factor_period_ = factor_next_ + padded;
        factor_ = reinterpret_cast<float*>(factor_period_ + padded);
        bytes_ = static_cast<uint8_t*>(byte_memory_.reserve((kGroup + 1) * lanes + 64));
    }

    // What follows is of the sequence of sample `index`.
    void begin(Key key, uint64_t index) {
        const uint64_t sequence = index / plan_.sequence.length;
        if (stamp_ > 0 && sequence == sequence_ && key.low == key_.low && key.high == key_.high)
            return;
        key_ = key;
        sequence_ = sequence;
        start_ = sequence * plan_.sequence.length;
        ++stamp_;
        position_ = factor_position_ = kNever;
    }

    // The samples whose words kVector features have at sample `index`.
    inline void locate(const int32_t* feature, uint64_t index, U32& low, U32& high) {
        low = splat(uint32_t(start_)) + positions(feature, uint32_t(index - start_));
        high = splat(uint32_t(start_ >> 32)) - (U32)(low < splat(uint32_t(start_)));
    }

    // The bytes of the screened features at sample `index`: [num_blocks, 16]. They stay until
    // that slot, one of kGroup, is asked for again.
    const uint8_t* bytes(uint64_t index, int slot) {
        const auto t = uint32_t(index - start_);
        if (position_ != kNever && t == position_ + 1)
            renew(t, index);
        else
            look_up(t);
        position_ = t;
        const int64_t lanes = plan_.screen.num_blocks * kBlock;
        uint8_t* kept = bytes_ + (slot + 1) * lanes;
        std::memcpy(kept, bytes_, size_t(lanes));
        return kept;
    }

    // The factors at sample `index`: [rank]. draw(factors): those of the world without sequences.
    template <class Draw>
    const float* factors(uint64_t index, float* fresh, Draw draw) {
        const auto t = uint32_t(index - start_);
        if (factor_position_ != kNever && t == factor_position_ + 1) {
            bool any = false;
            for (int64_t k = 0; k < plan_.rank; ++k) any |= factor_next_[k] == t;
            if (any) {
                draw(fresh);
                for (int64_t k = 0; k < plan_.rank; ++k) {
                    const bool is = factor_next_[k] == t;
                    factor_[k] = is ? fresh[k] : factor_[k];
                    factor_next_[k] += is ? factor_period_[k] : 0;
                }
            }
        } else {
            look_up_factors(t);
        }
        factor_position_ = t;
        return factor_;
    }

  private:
    static constexpr uint32_t kNever = ~uint32_t{0};

    // Words are renewed at positions first, first + period, ...
    struct Span {
        uint32_t first, period;
        uint64_t stamp;  // of the sequence that they are of
    };

    // The numbers of a law's thresholds that words are below.
    inline void count_below(const Law* const* law, U32 word, uint32_t* count) const {
        float logarithm[kVector];
        uint32_t words[kVector];
        store(logarithm, logarithms(word));
        store(words, word);
        for (int lane = 0; lane < kVector; ++lane) {
            const Law& of = *law[lane];
            const uint32_t* threshold = plan_.sequence.threshold + of.begin;
            const int32_t size = of.size;
            const float guess = logarithm[lane] * of.per_logarithm - float(of.least);
            int32_t n = guess < 0 ? 0 : guess < float(size) ? int32_t(guess) : size;
            n = n > size ? size : n;
            while (n < size && words[lane] <= threshold[n]) ++n;
            while (n > 0 && words[lane] > threshold[n - 1]) --n;
            count[lane] = uint32_t(of.least + n);
        }
    }

    // The spans of elements of a schedule: number 2 * block + odd.
    inline void draw_spans(U32 block, U32 odd, const Law* const* law, Span* span) const {
        Blocks words;
        draw<1>(kSchedule, &block, &sequence_, key_, &words);
        const U32 second = (U32)(odd != 0);
        uint32_t age[kVector], residual[kVector];
        count_below(law, (words.w[0] & ~second) | (words.w[2] & second), age);
        count_below(law, (words.w[1] & ~second) | (words.w[3] & second), residual);
        for (int lane = 0; lane < kVector; ++lane)
            span[lane] = {residual[lane] + 1, age[lane] + residual[lane] + 1, stamp_};
    }

    void find_spans(const int32_t* feature) {
        const U32 j = load<U32>(feature);
        const Law* law[kVector];
        for (int lane = 0; lane < kVector; ++lane)
            law[lane] = law_ + plan_.sequence.law_of[feature[lane]];
        Span span[kVector];
        draw_spans(j >> 1, j & 1, law, span);
        for (int lane = 0; lane < kVector; ++lane) span_[feature[lane]] = span[lane];
    }

    static uint32_t latest(const Span& span, uint32_t t) {
        return t < span.first ? 0 : t - (t - span.first) % span.period;
    }

    // Where the words of features at position t were drawn.
    inline U32 positions(const int32_t* feature, uint32_t t) {
        bool known = true;
        for (int lane = 0; lane < kVector; ++lane) known &= span_[feature[lane]].stamp == stamp_;
        if (!known) find_spans(feature);
        uint32_t at[kVector];
        for (int lane = 0; lane < kVector; ++lane) at[lane] = latest(span_[feature[lane]], t);
        return load<U32>(at);
    }

    // The screened features' bytes at any position.
    void look_up(uint32_t t) {
        const Screen& screen = plan_.screen;
        for (int64_t base = 0; base < screen.num_blocks * kBlock; base += kVector) {
            const int64_t b = base / kBlock;
            const uint32_t mask = uint32_t{screen.mask[b]} >> (base % kBlock);
            const U32 feature =
                splat(screen.block[b] * kBlock + uint32_t(base % kBlock)) + kNumbers;
            int32_t features[kVector];
            store(features, feature);
            const U32 at = positions(features, t);
            for (int lane = 0; lane < kVector; ++lane) {
                const Span& span = span_[features[lane]];
                const bool looked = mask >> lane & 1;
                next_[base + lane] = !looked         ? kNever
                                     : at[lane] == 0 ? span.first
                                                     : at[lane] + span.period;
                period_[base + lane] = span.period;
            }
            if (t == 0) continue;
            U32 low, high;
            locate(features, start_ + t, low, high);
            Blocks coarse;
            draw_each(kCoarse, feature / kBlock, low, high, key_, &coarse);
            const U32 bytes = bytes_of(feature, coarse);
            for (int lane = 0; lane < kVector; ++lane) bytes_[base + lane] = uint8_t(bytes[lane]);
        }
        if (t > 0) return;
        for (int64_t b = 0; b < screen.num_blocks; b += kVector)
            draw_blocks<1>(screen.block + b, start_, key_, bytes_ + b * kBlock);
    }

    // The same at the position behind the last: only what is renewed is drawn.
    void renew(uint32_t t, uint64_t index) {
        const Screen& screen = plan_.screen;
        const U32 now = splat(t);
        int64_t size = 0;
        for (int64_t b = 0; b < screen.num_blocks; ++b) {
            uint32_t mask = 0;
            for (int64_t base = b * kBlock; base < (b + 1) * kBlock; base += kVector) {
                const U32 next = load<U32>(next_ + base);
                const auto is = (U32)(next == now);
                store(next_ + base, next + (is & load<U32>(period_ + base)));
                mask |= bits_of((I32)is) << (base % kBlock);
            }
            renewing_[size] = uint32_t(b);
            renewed_[size] = mask;
            size += mask != 0;
        }
        for (int64_t base = 0; base < size; base += kVector) {
            uint32_t block[kVector] = {};
            const int64_t count = size - base < kVector ? size - base : kVector;
            for (int64_t k = 0; k < count; ++k) block[k] = screen.block[renewing_[base + k]];
            alignas(64) uint8_t fresh[kVector][kBlock];
            draw_blocks<1>(block, index, key_, fresh[0]);
            for (int64_t k = 0; k < count; ++k)
                blend(bytes_ + renewing_[base + k] * kBlock, fresh[k], renewed_[base + k]);
        }
    }

    // Those of sixteen bytes of which the mask has a bit.
    static inline void blend(uint8_t* bytes, const uint8_t* fresh, uint32_t mask) {
#if defined(SYNTHKERN_AVX512)
        store(bytes,
              _mm_mask_blend_epi8(__mmask16(mask), load<__m128i>(bytes), load<__m128i>(fresh)));
#else
        for (; mask; mask &= mask - 1) bytes[__builtin_ctz(mask)] = fresh[__builtin_ctz(mask)];
#endif
    }

    void look_up_factors(uint32_t t) {
        const Law* law[kVector];
        for (int lane = 0; lane < kVector; ++lane) law[lane] = law_ + plan_.sequence.factor_law;
        for (int64_t base = 0; base < plan_.rank; base += kVector) {
            const U32 k = splat(uint32_t(base)) + kNumbers;
            Span span[kVector];
            draw_spans(splat(kFactorSchedule) + (k >> 1), k & 1, law, span);
            uint32_t at[kVector];
            for (int lane = 0; lane < kVector; ++lane) {
                at[lane] = latest(span[lane], t);
                factor_period_[base + lane] = span[lane].period;
                factor_next_[base + lane] =
                    at[lane] == 0 ? span[lane].first : at[lane] + span[lane].period;
            }
            const U32 low = splat(uint32_t(start_)) + load<U32>(at);
            const U32 high = splat(uint32_t(start_ >> 32)) - (U32)(low < splat(uint32_t(start_)));
            Blocks words;
            draw_each(kFactor, k >> 2, low, high, key_, &words);
            for (uint32_t w = 0; w < 4; ++w) {
                const F32 normal = normals(words.w[w]);
                for (int lane = int(w); lane < kVector; lane += 4)
                    factor_[base + lane] = normal[lane];
            }
        }
    }

    const Plan& plan_;
    const Law* law_;
    Key key_{};
    uint64_t sequence_ = 0, start_ = 0, stamp_ = 0;
    uint32_t position_ = kNever, factor_position_ = kNever;  // where bytes_ and factor_ are
    Span* span_ = nullptr;                                   // [N], of this sequence or older
    uint32_t *next_ = nullptr, *period_ = nullptr;           // [num_blocks, 16] renewals
    uint32_t *renewing_ = nullptr, *renewed_ = nullptr;      // blocks, and which of their features
    uint32_t *factor_next_ = nullptr, *factor_period_ = nullptr;
    float* factor_ = nullptr;
    uint8_t* bytes_ = nullptr;  // [1 + kGroup, num_blocks, 16], the latest first
    Scratch span_memory_, memory_, byte_memory_;
};
