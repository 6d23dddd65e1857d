// Words that persist along sequences, and where they were drawn: part of kernels.cpp. The
// definition is in synthkern/stream/__init__.py.

// Blocks of the stream, n vectors of one purpose and one element a lane each, of samples of the
// lanes' own that the vectors share. Numbers are held as in draw().
template <int n>
static inline void draw_each(const uint32_t* purpose, const U32* element, U32 low, U32 high,
                             Key key, Blocks* blocks) {
    U64 c[2 * n][4];
#pragma GCC unroll 4
    for (int k = 0; k < 2 * n; ++k) {
        c[k][0] = (U64)element[k / 2] >> (k % 2 * 32);
        c[k][1] = wide(purpose[k / 2]);
        c[k][2] = (U64)low >> (k % 2 * 32);
        c[k][3] = (U64)high >> (k % 2 * 32);
    }
#pragma GCC unroll 10
    for (int round = 0; round < kPhiloxRounds; ++round) {
#pragma GCC unroll 4
        for (int k = 0; k < 2 * n; ++k) {
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
#pragma GCC unroll 2
    for (int k = 0; k < n; ++k)
        for (int w = 0; w < 4; ++w)
            blocks[k].w[w] = (U32)((c[2 * k][w] & 0xFFFFFFFFu) | c[2 * k + 1][w] << 32);
}

static inline void draw_each(uint32_t purpose, U32 element, U32 low, U32 high, Key key,
                             Blocks* blocks) {
    draw_each<1>(&purpose, &element, low, high, key, blocks);
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

// Words of a table, one a lane.
static inline U32 gather(const uint32_t* table, U32 place) {
#if defined(SYNTHKERN_AVX512)
    return (U32)_mm512_i32gather_epi32((__m512i)place, table, 4);
#elif defined(__AVX2__)
    return (U32)_mm256_i32gather_epi32(reinterpret_cast<const int*>(table), (__m256i)place, 4);
#else
    uint32_t lanes[kVector];
    for (int lane = 0; lane < kVector; ++lane) lanes[lane] = table[place[lane]];
    return load<U32>(lanes);
#endif
}

static inline F32 smaller(F32 a, F32 b) {
    const auto is = (U32)(a < b);
    return (F32)(((U32)a & is) | ((U32)b & ~is));
}

// The words of one sequence after the other that a thread's sampler needs.
class Held {
  public:
    explicit Held(const Plan& plan) : plan_(plan), law_(plan.sequence.law) {
        if (!plan.sequences()) return;
        const int64_t lanes = plan.screen.num_blocks * kBlock, padded = plan.padded_rank + kBlock;
        const int64_t features = plan.num_features + 2 * kBlock;
        span_ = static_cast<Span*>(span_memory_.reserve(features * int64_t{sizeof(Span)}));
        for (int64_t j = 0; j < features; ++j) span_[j] = Span{1, 1, {0, 0}};
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
    // Whole numbers up to this are floats.
    static constexpr uint32_t kExact = uint32_t{1} << 23;

    // Words are renewed at positions first, first + period, ... of the sequence of that stamp.
    struct Span {
        uint32_t first, period, stamp[2];
    };

    // The numbers that words of laws become: [begin, size, least, per_logarithm].
    inline U32 spans(const U32* law, U32 word) const {
        const uint32_t* threshold = plan_.sequence.threshold;
        const auto size = (I32)law[1];
        F32 guess = logarithms(word) * (F32)law[3];
        // In the range of an int32, whatever the law.
        guess = smaller((F32)((U32)guess & (U32)(guess > splat(0.0f))), splat(float(1 << 30)));
        I32 n = __builtin_convertvector(guess, I32) - (I32)law[2];
        n = n & (n > 0);
        n = (n & (n < size)) | (size & (n >= size));
        const I32 above = n < size, under = n > 0;
        const U32 next = gather(threshold, law[0] + (U32)(n & above));
        const U32 last = gather(threshold, law[0] + (U32)((n - 1) & under));
        const I32 wrong = ((I32)(word <= next) & above) | ((I32)(word > last) & under);
        if (bits_of(wrong) != 0) {
            for (int lane = 0; lane < kVector; ++lane) {
                const uint32_t* its = threshold + law[0][lane];
                int32_t k = n[lane];
                while (k < size[lane] && word[lane] <= its[k]) ++k;
                while (k > 0 && word[lane] > its[k - 1]) --k;
                n[lane] = k;
            }
        }
        return law[2] + (U32)n;
    }

    struct Spans {
        U32 first, period;
    };

    // Of elements of the schedule, each the first or the second of its block.
    inline Spans draw_spans(U32 block, U32 odd, const U32* law) const {
        Blocks words;
        draw<1>(kSchedule, &block, &sequence_, key_, &words);
        const auto second = (U32)(odd != 0);
        const U32 age = spans(law, (words.w[0] & ~second) | (words.w[2] & second));
        const U32 residual = spans(law, (words.w[1] & ~second) | (words.w[3] & second));
        return {residual + 1, age + residual + 1};
    }

    void find_spans(const int32_t* feature) {
        const U32 j = load<U32>(feature);
        U32 law[4];
        load_rows(reinterpret_cast<const uint32_t (*)[4]>(law_),
                  gather(reinterpret_cast<const uint32_t*>(plan_.sequence.law_of), j), law);
        const Spans found = draw_spans(j >> 1, j & 1, law);
        uint32_t first[kVector], period[kVector];
        store(first, found.first);
        store(period, found.period);
        for (int lane = 0; lane < kVector; ++lane)
            span_[feature[lane]] = {
                first[lane], period[lane], {uint32_t(stamp_), uint32_t(stamp_ >> 32)}};
    }

    // Where the words of features at position t were drawn.
    inline U32 positions(const int32_t* feature, uint32_t t) {
        const auto* table = reinterpret_cast<const uint32_t (*)[4]>(span_);
        const U32 j = load<U32>(feature);
        U32 row[4];
        load_rows(table, j, row);
        const auto old = (I32)(row[2] != splat(uint32_t(stamp_))) |
                         (I32)(row[3] != splat(uint32_t(stamp_ >> 32)));
        if (bits_of(old) != 0) {
            find_spans(feature);
            load_rows(table, j, row);
        }
        return latest({row[0], row[1]}, t);
    }

    // The last renewal up to position t, or 0.
    inline U32 latest(const Spans& spans, uint32_t t) const {
        const U32 since = splat(t) - spans.first;
        U32 rest;
        if (plan_.sequence.length <= kExact) {
            // A quotient of such floats is never rounded up to a whole number.
            const F32 quotient = __builtin_convertvector((I32)since, F32) /
                                 __builtin_convertvector((I32)spans.period, F32);
            rest = since - (U32) __builtin_convertvector(quotient, I32) * spans.period;
        } else {
            rest = since % spans.period;
        }
        return (splat(t) - rest) & (U32)((I32)since >= 0);
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
        // Locals, as the compiler takes what bytes are written to for any of the members.
        uint32_t *const next = next_, *const renewing = renewing_, *const renewed = renewed_;
        const uint32_t* const period = period_;
        uint8_t* const bytes = bytes_;
        int64_t size = 0;
        for (int64_t b = 0; b < screen.num_blocks; ++b) {
            uint32_t mask = 0;
            for (int64_t base = b * kBlock; base < (b + 1) * kBlock; base += kVector)
                mask |= bits_of((I32)(load<U32>(next + base) == now)) << (base % kBlock);
            renewing[size] = uint32_t(b);
            renewed[size] = mask;
            size += mask != 0;
        }
        // Two vectors at a time take little longer than one.
        constexpr int kTogether = 2 * kVector;
        for (int64_t base = 0; base < size; base += kTogether) {
            uint32_t block[kTogether] = {};
            const int64_t count = size - base < kTogether ? size - base : kTogether;
            for (int64_t k = 0; k < count; ++k) block[k] = screen.block[renewing[base + k]];
            const U32 element[2] = {order_blocks(load<U32>(block)),
                                    order_blocks(load<U32>(block + kVector))};
            const uint64_t both[2] = {index, index};
            Blocks words[2];
            draw<2>(kCoarse, element, both, key_, words);
            alignas(64) uint8_t fresh[kTogether][kBlock];
            transpose_bytes(words[0], fresh[0]);
            transpose_bytes(words[1], fresh[kVector]);
            for (int64_t k = 0; k < count; ++k) {
                const int64_t first = renewing[base + k] * kBlock;
                for (int64_t at = first; at < first + kBlock; at += kVector) {
                    const U32 old = load<U32>(next + at);
                    store(next + at, old + ((U32)(old == now) & load<U32>(period + at)));
                }
                blend(bytes + renewing[base + k] * kBlock, fresh[k], renewed[base + k]);
            }
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
        U32 law[4];
        load_rows(reinterpret_cast<const uint32_t (*)[4]>(law_),
                  splat(uint32_t(plan_.sequence.factor_law)), law);
        for (int64_t base = 0; base < plan_.rank; base += kVector) {
            const U32 k = splat(uint32_t(base)) + kNumbers;
            const Spans spans = draw_spans(splat(kFactorSchedule) + (k >> 1), k & 1, law);
            const U32 at = latest(spans, t), started = (U32)(at != 0);
            store(factor_period_ + base, spans.period);
            store(factor_next_ + base, ((at + spans.period) & started) | (spans.first & ~started));
            const U32 low = splat(uint32_t(start_)) + at;
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
    const HoldingLaw* law_;
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
