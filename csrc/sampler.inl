// One thread's sampler: part of kernels.cpp.

// held: samples are positions of sequences, and every group of one.
template <bool held>
class Sampler final : public GroupSampler {
  public:
    explicit Sampler(const Plan& plan) : plan_(plan), held_(plan) {
        const Screen& screen = plan.screen;
        for (Survivors& list : survivors_) list.reserve(screen.num_blocks * kBlock);
        for (Hits& hits : hits_) hits.reserve(screen.num_blocks / 2);
        if (plan.copula()) {
            factors_ = memory_of<float>(factor_memory_, kGroup * plan.padded_rank);
            int32_t* quads = memory_of<int32_t>(quad_memory_, kGroup * (screen.quads + 1));
            for (int s = 0; s < kGroup; ++s) quantised_[s].quad = quads + s * (screen.quads + 1);
        }
        if (plan.triangular) dots_ = memory_of<float>(dot_memory_, kGroup * dot_stride());
        // Groups are numbered from the top down.
        int64_t num_groups = 0;
        for (int64_t k = 0; k < plan.forest.num_roots; ++k) {
            const int32_t group = plan.forest.node[k].group();
            if (group >= num_groups) num_groups = group + 1;
        }
        best_ = memory_of<int64_t>(best_memory_, num_groups + 1);
        for (int64_t g = 0; g < num_groups; ++g) best_[g] = -1;
    }

    void sample(Key key, uint64_t index, int count, Entries* out) override {
        key_ = key;
        if constexpr (held) held_.begin(key, index);
        if (plan_.copula())
            for (int s = 0; s < count; ++s) draw_factors(index + uint64_t(s), s);
        if (plan_.magnitudes.has(kSharedNormal))
            for (int s = 0; s < count; ++s) shared_[s] = draw_shared(index + uint64_t(s));
        if (count == kGroup)
            screen<kGroup>(index, 0);
        else
            for (int s = 0; s < count; ++s) screen<1>(index + uint64_t(s), s);
        list_survivors(0);
        if (plan_.triangular) multiply_rows(count);
        for (int s = 0; s < count; ++s) {
            // What is asked for of the next sample's arrives meanwhile.
            if (s + 1 < count) list_survivors(s + 1);
            out[s].size = 0;
            const Survivors& list = survivors_[s];
            evaluate(list.feature, list.byte, plan_.triangular ? dots_ + s * dot_stride() : nullptr,
                     list.size, factors(s), shared_[s], index + uint64_t(s), out[s]);
        }
        if (plan_.forest.num_nodes > 0) walk(index, count, out);
    }

  private:
    // Samples whose coarse blocks are drawn at once.
    static constexpr int kScreenDraws = 2;
    // Lists of features are read sixteen at a time.
    static constexpr int64_t kPadding = 16;

    // Features that passed the screen, with their coarse bytes.
    struct Survivors {
        int32_t* feature;
        uint8_t* byte;
        int64_t size;
        Scratch memory;

        void reserve(int64_t count) {
            const int64_t padded = count + kPadding;
            feature = memory_of<int32_t>(memory, padded + padded / 4 + 1);
            byte = reinterpret_cast<uint8_t*>(feature + padded);
        }
    };

    // Pairs of blocks of which some feature passed.
    struct Hits {
        int64_t* block;
        uint32_t* mask;
        uint8_t* bytes;  // [size, 32]
        int64_t size;
        Scratch block_memory, mask_memory, byte_memory;

        void reserve(int64_t count) {
            block = memory_of<int64_t>(block_memory, count + 1);
            mask = memory_of<uint32_t>(mask_memory, count + 1);
            bytes = memory_of<uint8_t>(byte_memory, (count + 1) * kTwoBlocks);
        }

        // Written whether or not any did, so that there is no branch to mispredict.
        void note(int64_t first_block, uint32_t passed, const uint8_t* from) {
            block[size] = first_block;
            mask[size] = passed;
            std::memcpy(bytes + size * kTwoBlocks, from, kTwoBlocks);
            size += passed != 0;
        }
    };

    template <class T>
    static T* memory_of(Scratch& memory, int64_t count) {
        return static_cast<T*>(memory.reserve(count * int64_t{sizeof(T)}));
    }

    int64_t dot_stride() const { return plan_.screen.num_blocks * kBlock + kPadding; }
    float* factors(int s) { return factors_ + s * plan_.padded_rank; }

    void draw_factors(uint64_t index, int s) {
        float* factor = factors(s);
        const int64_t rank = plan_.rank;
        if constexpr (held) {
            const float* latest =
                held_.factors(index, factor, [&](float* to) { draw_normals(index, to); });
            std::memcpy(factor, latest, size_t(rank) * sizeof(float));
        } else {
            draw_normals(index, factor);
        }
        for (int64_t k = rank; k < plan_.padded_rank; ++k) factor[k] = 0;
        if (!plan_.triangular) quantise(plan_, factor, quantised_[s]);
    }

    // The factors of a sample by itself.
    void draw_normals(uint64_t index, float* factor) const {
        const int64_t rank = plan_.rank;
        for (int64_t base = 0; base < plan_.padded_rank; base += 4 * kVector) {
            const U32 first = splat(uint32_t(base / 4)) + kNumbers;
            Blocks words;
            draw<1>(kFactor, &first, &index, key_, &words);
            for (int w = 0; w < 4; ++w) {
                if (base + w >= rank) break;
                const F32 normal = normals(words.w[w]);
                for (int lane = 0; lane < kVector; ++lane) {
                    const int64_t k = base + 4 * lane + w;
                    if (k < rank) factor[k] = normal[lane];
                }
            }
        }
    }

    // What the normals of a sample's magnitudes have in common.
    float draw_shared(uint64_t index) const {
        const U32 element = splat(uint32_t{0});
        Blocks words;
        draw<1>(kMagnitude, &element, &index, key_, &words);
        return plan_.magnitudes.shared * normals(words.w[0])[0];
    }

    // The same of each lane's sample.
    F32 shared_of(const uint8_t* sample) const {
        float shared[kVector];
        for (int lane = 0; lane < kVector; ++lane) shared[lane] = shared_[sample[lane]];
        return load<F32>(shared);
    }

    // Notes what may fire of the features that nothing gates, for `count` samples from number
    // `first` of the group.
    template <int count>
    void screen(uint64_t index, int first) {
        const Screen& screen = plan_.screen;
        for (int s = 0; s < count; ++s) hits_[first + s].size = 0;
        alignas(64) uint8_t bytes[count][kVector][kBlock];
        const uint8_t* kept[count] = {};
        if constexpr (held)
            for (int s = 0; s < count; ++s) kept[s] = held_.bytes(index + uint64_t(s), first + s);
        for (int64_t base = 0; base < screen.num_blocks; base += kVector) {
            constexpr int together = count < kScreenDraws ? 1 : kScreenDraws;
            for (int s = 0; s < count; s += together) {
                if constexpr (held) {
                    for (int k = s; k < s + together; ++k)
                        std::memcpy(bytes[k], kept[k] + base * kBlock, sizeof(bytes[k]));
                } else {
                    draw_blocks<together>(screen.block + base, index + uint64_t(s), key_,
                                          bytes[s][0]);
                }
            }
            for (int k = 0; k < kVector; k += 2) {
                uint32_t passed[count];
                look<count>(base + k, first, bytes[0][k], passed);
                const uint32_t looked = load<uint32_t>(screen.mask + base + k);
                for (int s = 0; s < count; ++s)
                    hits_[first + s].note(base + k, passed[s] & looked, bytes[s][k]);
            }
        }
    }

    // Which of the 32 features from `block` on pass, for each sample; their bytes are kVector rows
    // of a block apart.
    template <int count>
    inline void look(int64_t block, int first, const uint8_t* bytes, uint32_t* passed) {
        const Screen& screen = plan_.screen;
        constexpr int stride = kVector * kBlock;
        if (plan_.triangular) {
            for (int s = 0; s < count; ++s) passed[s] = ~uint32_t{0};
            return;
        }
        if (!plan_.copula()) {
            for (int s = 0; s < count; ++s)
                passed[s] = at_most(bytes + s * stride, screen.last_byte + block * kBlock);
            return;
        }
        const Quantised* quantised = quantised_ + first;
        const int size = screen.quads;
        const uint8_t* loading = screen.loading + block * size * 4 * kBlock;
        // As many blocks together as the registers hold sums of.
        constexpr int together = sizeof(Sums) == 4 * kBlock && kVector == 16 ? 2 : 1;
        Sums sums[2][count];
#pragma GCC unroll 2
        for (int b = 0; b < 2; b += together) {
            Sums sum[together][count];
#pragma GCC unroll 2
            for (int k = 0; k < together; ++k)
#pragma GCC unroll 4
                for (int s = 0; s < count; ++s) sum[k][s] = start_from(quantised[s].start);
            for (int q = 0; q < size; ++q)
#pragma GCC unroll 4
                for (int s = 0; s < count; ++s)
#pragma GCC unroll 2
                    for (int k = 0; k < together; ++k)
                        sum[k][s] = add_quad(sum[k][s], loading + (k * size + q) * 4 * kBlock,
                                             quantised[s].quad[q]);
            loading += together * size * 4 * kBlock;
#pragma GCC unroll 2
            for (int k = 0; k < together; ++k)
#pragma GCC unroll 4
                for (int s = 0; s < count; ++s) sums[b + k][s] = sum[k][s];
        }
        const int16_t* threshold = screen.threshold + block * kBlock;
        const int16_t* noise = screen.noise + block * kBlock;
#pragma GCC unroll 4
        for (int s = 0; s < count; ++s)
            passed[s] = quantised[s].unscreened |
                        may_fire(sums[0][s], sums[1][s], threshold, noise, bytes + s * stride);
    }

    void list_survivors(int s) {
        const Hits& hits = hits_[s];
        Survivors& list = survivors_[s];
        list.size = 0;
        for (int64_t h = 0; h < hits.size; ++h) {
            const uint32_t* block = plan_.screen.block + hits.block[h];
            for (uint32_t mask = hits.mask[h]; mask; mask &= mask - 1) {
                const int bit = __builtin_ctz(mask);
                const int32_t feature = int32_t(block[bit / kBlock] * kBlock + bit % kBlock);
                ask_for(feature);
                if (plan_.forest.num_nodes > 0) __builtin_prefetch(plan_.forest.node_of + feature);
                list.feature[list.size] = feature;
                list.byte[list.size++] = hits.bytes[h * kTwoBlocks + bit];
            }
        }
        pad(list.feature, list.size);
    }

    // A full correlation matrix: every loading counts, so the products themselves are computed,
    // eight rows of the Cholesky factor at a time for the whole group, which has the same
    // survivors.
    void multiply_rows(int count) {
        const Survivors& list = survivors_[0];
        for (int64_t base = 0; base < list.size; base += kVector) {
            for (int s = 0; s < count; ++s)
                store(dots_ + s * dot_stride() + base, products(list.feature + base, factors(s)));
        }
    }

    // Loadings times the factors of a sample, or with `of` of each feature's own sample.
    inline F32 products(const int32_t* ids, const float* factor) const {
        return products<false>(ids, factor, nullptr);
    }

    template <bool each>
    inline F32 products(const int32_t* ids, const float* factor, const uint8_t* of) const {
#if defined(SYNTHKERN_AVX512)
        return (F32)_mm512_insertf32x8(
            _mm512_castps256_ps512((__m256)eight_products<each>(ids, factor, of)),
            (__m256)eight_products<each>(ids + kLanes, factor, of + (each ? kLanes : 0)), 1);
#else
        return eight_products<each>(ids, factor, of);
#endif
    }

    template <bool each>
    inline F32x8 eight_products(const int32_t* ids, const float* factor, const uint8_t* of) const {
        int64_t length = plan_.padded_rank;
        const float* row[kLanes];
        for (int lane = 0; lane < kLanes; ++lane)
            row[lane] = plan_.factor + int64_t{ids[lane]} * plan_.padded_rank;
        if (plan_.triangular) {
            // Behind the diagonal of a triangular factor there are only zeros to add.
            length = 0;
            for (int lane = 0; lane < kLanes; ++lane) {
                const int64_t end = (ids[lane] / kLanes + 1) * int64_t{kLanes};
                if (end > length) length = end;
            }
        }
        F32x8 s[kLanes];
#pragma GCC unroll 8
        for (int lane = 0; lane < kLanes; ++lane) s[lane] = F32x8{};
        const float* own[kLanes];
        for (int lane = 0; lane < kLanes; ++lane)
            own[lane] = factor + (each ? of[lane] * plan_.padded_rank : 0);
        for (int64_t k = 0; k < length; k += kLanes) {
#pragma GCC unroll 8
            for (int lane = 0; lane < kLanes; ++lane)
                s[lane] = s[lane] + load<F32x8>(row[lane] + k) * load<F32x8>(own[lane] + k);
        }
        return add_up(s);
    }

    // Some feature, or block, in the places behind a list's end.
    template <class T>
    static void pad(T* feature, int64_t size) {
        std::memset(feature + size, 0, kPadding * sizeof(T));
    }

    // Appends those of the given features that fire with a value above zero; `node` of an entry
    // is its place in `feature`. byte: their coarse bytes; dots: their products with the factors,
    // or null to compute them; all three may be read up to fifteen places behind `count`.
    void evaluate(const int32_t* feature, const uint8_t* byte, const float* dots, int64_t count,
                  const float* factor, float shared, uint64_t index, Entries& out) {
        out.reserve(out.size + count);
        verdict_.reserve(count);
        // First everything is computed, without a branch that could be mispredicted, so that
        // vectors overlap (sampling the standard workload: 7.0 us a sample, 7.6 otherwise).
        for (int64_t base = 0; base < count; base += kPadding) {
            if (kVector == kPadding || count - base <= kVector)
                decide<1>(feature, byte, dots, base, factor, shared, index);
            else
                decide<kPadding / kVector>(feature, byte, dots, base, factor, shared, index);
        }
        for_each(true, count, [&](int64_t place) {
            const int64_t to = out.size++;
            out.feature[to] = feature[place];
            out.value[to] = verdict_.value[place];
            out.share[to] = verdict_.value[place] / verdict_.mean[place];
            out.priority[to] = uint64_t{verdict_.high[place]} << 32 | verdict_.low[place];
        });
    }

    // Verdicts on n vectors of features from `base` on.
    template <int n>
    inline void decide(const int32_t* feature, const uint8_t* byte, const float* dots, int64_t base,
                       const float* factor, float shared, uint64_t index) {
        U32 element[n];
        uint64_t indices[n];
        for (int k = 0; k < n; ++k) {
            element[k] = load<U32>(feature + base + k * kVector);
            indices[k] = index;
        }
        Blocks own[n];
        if constexpr (held) {
            for (int k = 0; k < n; ++k) draw_held(feature + base + k * kVector, index, &own[k]);
        } else {
            draw<n>(kFeature, element, indices, key_, own);
        }
        for (int k = 0; k < n; ++k) {
            const int64_t at = base + k * kVector;
            judge(
                element[k], byte + at, own[k].w[0], own[k].w[1], at,
                [&] { return dots ? load<F32>(dots + at) : products(feature + at, factor); },
                [&] { return splat(shared); });
            store(verdict_.high + at, own[k].w[2]);
            store(verdict_.low + at, own[k].w[3]);
        }
    }

    // The own words of a vector of features at a sample.
    inline void draw_held(const int32_t* feature, uint64_t index, Blocks* own) {
        U32 low, high;
        held_.locate(feature, index, low, high);
        draw_each(kFeature, load<U32>(feature), low, high, key_, own);
    }

    // Which of a vector of features fire with a value above zero, and their values. words: the
    // first two of their own; products(): theirs with the factors; shared(): of their samples.
    template <class Products, class Shared>
    inline void judge(U32 feature, const uint8_t* byte, U32 word0, U32 word1, int64_t at,
                      Products products, Shared shared) {
        const U32 coarse = widen(byte);
        U32 row[4];
        load_rows(plan_.row, feature, row);
        I32 fires;
        if (plan_.copula()) {
            const F32 s = products();
            const F32 noise = normals(coarse << 24 | word0 >> 8);
            fires = (s + (F32)row[kNoise] * noise) > (F32)row[kThreshold];
        } else {
            fires = (I32)(coarse < row[kFireByte]) |
                    ((I32)(coarse == row[kFireByte]) & (I32)(word0 < row[kFireWord]));
        }
        const F32 z = normals(word1);
        const F32 value = plan_.magnitudes.flags == 0
                              ? (F32)row[kMean] + (F32)row[kStd] * z
                              : magnitudes_of(plan_.magnitudes, feature, z, shared());
        const uint32_t bits = bits_of(fires & (I32)(value > splat(0.0f)));
        std::memcpy(verdict_.fires + at / 8, &bits, kVector / 8);
        store(verdict_.value + at, value);
        store(verdict_.mean + at, row[kMean]);
    }

    struct Verdict {
        uint8_t* fires = nullptr;  // a bit per feature
        float* value = nullptr;
        float* mean = nullptr;
        uint32_t* high = nullptr;
        uint32_t* low = nullptr;  // words of the priority
        Scratch memory;

        void reserve(int64_t count) {
            const int64_t padded = (count + 2 * kPadding) / kPadding * kPadding;
            value = memory_of<float>(memory, 4 * padded + padded / 32 + 4);
            mean = value + padded;
            high = reinterpret_cast<uint32_t*>(mean + padded);
            low = high + padded;
            fires = reinterpret_cast<uint8_t*>(low + padded);
        }
    };

    // What evaluate() will read of a feature: tables of some megabytes, too large for the caches
    // near a core.
    void ask_for(int32_t feature) const {
        __builtin_prefetch(plan_.row[feature]);
        if (!plan_.copula() || plan_.triangular) return;
        const float* loading = plan_.factor + int64_t{feature} * plan_.padded_rank;
        for (int64_t k = 0; k < plan_.padded_rank; k += 16) __builtin_prefetch(loading + k);
    }

    // Walks the first forest below what is active, a level of all samples at a time, so that what
    // is asked for of one sample's children arrives while others are looked at.
    void walk(uint64_t index, int count, Entries* out) {
        const Forest& forest = plan_.forest;
        for (int s = 0; s < count; ++s) {
            Entries& active = out[s];
            for (int64_t i = 0; i < active.size; ++i) {
                const int32_t node = forest.node_of[active.feature[i]];
                active.node[i] = node;
                __builtin_prefetch(forest.node + forest.node[node < 0 ? 0 : node].child_begin);
            }
            if (forest.roots_grouped) keep_max_priority(active);
            children_[s].begin = 0;
        }
        for (;;) {
            int64_t size = 0;
            for (int s = 0; s < count; ++s) {
                list_children(out[s], children_[s]);
                size += children_[s].size;
            }
            if (size == 0) return;
            first_.reserve(size);
            for (int s = 0; s < count; ++s) {
                if (children_[s].size == 0) continue;
                draw_words(children_[s], index + uint64_t(s));
                pick_first(children_[s], s);
                out[s].reserve(out[s].size + children_[s].size);
            }
            judge_picked(first_);
            rest_.reserve(size);
            for_each(true, first_.size, [&](int64_t i) { add_child(first_, i, out); });
            for_each(false, first_.size,
                     [&](int64_t i) { pick_rest(first_.place[i], first_.sample[i]); });
            judge_picked(rest_);
            add_rest(out);
        }
    }

    // The children of a sample's latest active nodes.
    struct Children {
        int64_t begin = 0;  // the first entry whose children have not been looked at
        int64_t size = 0;
        int32_t* feature = nullptr;
        int32_t* node = nullptr;
        int32_t* group = nullptr;
        float* ratio = nullptr;   // what their values are multiplied by
        uint32_t* word[4] = {};   // their own
        int32_t* slot = nullptr;  // of their coarse block
        Scratch memory;
        int64_t num_blocks = 0;  // siblings tend to share one
        uint32_t* block = nullptr;
        uint8_t* bytes = nullptr;  // [num_blocks, 16]; held: of each
        Scratch block_memory;

        void reserve(int64_t count) {
            const int64_t padded = (count + 2 * kPadding) / kPadding * kPadding;
            feature = memory_of<int32_t>(memory, padded * 9);
            node = feature + padded;
            group = node + padded;
            slot = group + padded;
            ratio = reinterpret_cast<float*>(slot + padded);
            for (int w = 0; w < 4; ++w)
                word[w] = reinterpret_cast<uint32_t*>(slot + (2 + w) * padded);
            block = memory_of<uint32_t>(block_memory, padded + padded * kBlock / 4);
            bytes = reinterpret_cast<uint8_t*>(block + padded);
        }

        uint64_t priority(int64_t i) const { return uint64_t{word[2][i]} << 32 | word[3][i]; }
        uint8_t byte(int64_t i) const {
            if constexpr (held) return bytes[i];
            return bytes[slot[i] * kBlock + feature[i] % kBlock];
        }
    };

    void list_children(const Entries& active, Children& children) {
        const Forest& forest = plan_.forest;
        int32_t* parent = memory_of<int32_t>(parent_memory_, active.size - children.begin + 1);
        int64_t size = 0, parents = 0;
        for (int64_t i = children.begin; i < active.size; ++i) {
            // Without a branch, which would be guessed wrong.
            const int32_t node = active.node[i];
            const int32_t own = node < 0 ? 0 : forest.node[node < 0 ? 0 : node].num_children;
            parent[parents] = int32_t(i);
            parents += own > 0;
            size += own;
        }
        children.begin = active.size;
        children.size = size;
        if (size == 0) return;
        children.reserve(size);
        int64_t at = 0, blocks = 0;
        uint32_t block = ~uint32_t{0};
        for (int64_t p = 0; p < parents; ++p) {
            const int32_t i = parent[p];
            const Node& above = forest.node[active.node[i]];
            const float scale = active.share[i];
            for (int32_t k = above.child_begin; k < above.child_end(); ++k, ++at) {
                const Node& node = forest.node[k];
                children.feature[at] = node.feature;
                children.node[at] = k;
                children.group[at] = node.group();
                children.ratio[at] = node.scaled() ? scale : 1.0f;
                if (uint32_t(node.feature) / kBlock != block) {
                    block = uint32_t(node.feature) / kBlock;
                    children.block[blocks++] = block;
                }
                children.slot[at] = int32_t(blocks - 1);
            }
        }
        children.num_blocks = blocks;
        pad(children.feature, size);
        pad(children.block, blocks);
        children.group[size] = -1;
    }

    void draw_words(Children& children, uint64_t index) {
        if constexpr (held) return draw_held_words(children, index);
        for (int64_t base = 0; base < children.num_blocks; base += kVector)
            draw_blocks<1>(children.block + base, index, key_, children.bytes + base * kBlock);
        for (int64_t base = 0; base < children.size; base += kVector) {
            const U32 element = load<U32>(children.feature + base);
            Blocks own;
            draw<1>(kFeature, &element, &index, key_, &own);
            for (int w = 0; w < 4; ++w) store(children.word[w] + base, own.w[w]);
        }
    }

    // Every child has a coarse block by itself.
    void draw_held_words(Children& children, uint64_t index) {
        constexpr uint32_t purposes[2] = {kFeature, kCoarse};
        for (int64_t base = 0; base < children.size; base += kVector) {
            const U32 feature = load<U32>(children.feature + base);
            const U32 elements[2] = {feature, feature / kBlock};
            U32 low, high;
            held_.locate(children.feature + base, index, low, high);
            Blocks words[2];
            draw_each<2>(purposes, elements, low, high, key_, words);
            for (int w = 0; w < 4; ++w) store(children.word[w] + base, words[0].w[w]);
            const U32 bytes = bytes_of(feature, words[1]);
            for (int lane = 0; lane < kVector; ++lane)
                children.bytes[base + lane] = uint8_t(bytes[lane]);
        }
    }

    // Children of any sample that are judged together.
    struct Picked {
        int64_t size = 0;
        int32_t* feature = nullptr;
        float* ratio = nullptr;
        int32_t* place = nullptr;  // among their sample's children
        uint32_t* word[2] = {};    // the first two of their own
        uint8_t* byte = nullptr;
        uint8_t* sample = nullptr;
        Scratch memory;

        void reserve(int64_t count) {
            const int64_t padded = count + kPadding;
            feature = memory_of<int32_t>(memory, padded * 6);
            ratio = reinterpret_cast<float*>(feature + padded);
            place = feature + 2 * padded;
            for (int w = 0; w < 2; ++w)
                word[w] = reinterpret_cast<uint32_t*>(place + (1 + w) * padded);
            byte = reinterpret_cast<uint8_t*>(word[1] + padded);
            sample = byte + padded;
            size = 0;
        }

        void add(const Children& children, int64_t i, int s) {
            feature[size] = children.feature[i];
            ratio[size] = children.ratio[i];
            place[size] = int32_t(i);
            word[0][size] = children.word[0][i];
            word[1][size] = children.word[1][i];
            byte[size] = children.byte(i);
            sample[size++] = uint8_t(s);
        }
    };

    // Of every exclusive group the member with the greatest priority, of equal ones the first: most
    // often it fires, and then the others need not be judged (sampling the standard workload: 4.3
    // us a sample, 4.5 with all of them judged). And all that are in no group.
    void pick_first(const Children& children, int s) {
        for (int64_t i = 0; i < children.size;) {
            const int32_t group = children.group[i];
            int64_t best = i++;
            if (group >= 0) {
                uint64_t most = children.priority(best);
                for (; children.group[i] == group; ++i) {
                    const uint64_t priority = children.priority(i);
                    best = priority > most ? i : best;
                    most = priority > most ? priority : most;
                }
            }
            ask_for(children.feature[best]);
            first_.add(children, best, s);
        }
    }

    // The other members of the group of one that does not fire.
    void pick_rest(int64_t place, int s) {
        const Children& children = children_[s];
        const int32_t group = children.group[place];
        if (group < 0) return;
        int64_t i = place;
        while (i > 0 && children.group[i - 1] == group) --i;
        for (; children.group[i] == group; ++i) {
            if (i == place) continue;
            ask_for(children.feature[i]);
            rest_.add(children, i, s);
        }
    }

    void judge_picked(Picked& picked) {
        verdict_.reserve(picked.size);
        pad(picked.feature, picked.size);
        pad(picked.sample, picked.size);
        for (int64_t at = 0; at < picked.size; at += kVector) {
            judge(
                load<U32>(picked.feature + at), picked.byte + at, load<U32>(picked.word[0] + at),
                load<U32>(picked.word[1] + at), at,
                [&] { return products<true>(picked.feature + at, factors_, picked.sample + at); },
                [&] { return shared_of(picked.sample + at); });
            const F32 value = load<F32>(verdict_.value + at) * load<F32>(picked.ratio + at);
            store(verdict_.value + at, value);
            uint32_t bits = 0;
            std::memcpy(&bits, verdict_.fires + at / 8, kVector / 8);
            bits &= bits_of((I32)(value > splat(0.0f)));
            std::memcpy(verdict_.fires + at / 8, &bits, kVector / 8);
        }
    }

    // Calls take(place) for those of `count` that fire, or that do not.
    template <class Take>
    void for_each(bool fires, int64_t count, Take take) const {
        for (int64_t base = 0; base < count; base += 64) {
            uint64_t rest = load<uint64_t>(verdict_.fires + base / 8) ^ (fires ? 0 : ~uint64_t{0});
            if (count - base < 64) rest &= (uint64_t{1} << (count - base)) - 1;
            for (; rest; rest &= rest - 1) take(base + __builtin_ctzll(rest));
        }
    }

    void add_child(const Picked& picked, int64_t i, Entries* out) {
        Entries& to = out[picked.sample[i]];
        const int32_t node = children_[picked.sample[i]].node[picked.place[i]];
        __builtin_prefetch(plan_.forest.node + plan_.forest.node[node].child_begin);
        to.feature[to.size] = picked.feature[i];
        to.value[to.size] = verdict_.value[i];
        to.share[to.size] = verdict_.value[i] / verdict_.mean[i];
        to.node[to.size++] = node;
    }

    // Of a group's members, which are neighbours, the greatest priority stays, a tie going to the
    // first.
    void add_rest(Entries* out) {
        int64_t best = -1;
        uint64_t most = 0;
        int32_t group = -1;
        int sample = -1;
        for_each(true, rest_.size, [&](int64_t i) {
            const Children& children = children_[rest_.sample[i]];
            const int64_t place = rest_.place[i];
            if (children.group[place] != group || rest_.sample[i] != sample) {
                if (best >= 0) add_child(rest_, best, out);
                best = -1;
                group = children.group[place];
                sample = rest_.sample[i];
            }
            if (best >= 0 && children.priority(place) <= most) return;
            best = i;
            most = children.priority(place);
        });
        if (best >= 0) add_child(rest_, best, out);
    }

    // Of each exclusive group's roots, in any order, the greatest priority stays.
    void keep_max_priority(Entries& out) {
        const Node* node = plan_.forest.node;
        const auto group_of = [&](int64_t i) {
            return out.node[i] < 0 ? -1 : node[out.node[i]].group();
        };
        for (int64_t i = 0; i < out.size; ++i) {
            if (group_of(i) < 0) continue;
            int64_t& best = best_[group_of(i)];
            if (best < 0 || out.priority[i] > out.priority[best] ||
                (out.priority[i] == out.priority[best] && out.node[i] < out.node[best]))
                best = i;
        }
        int64_t kept = 0;
        for (int64_t i = 0; i < out.size; ++i) {
            const int32_t g = group_of(i);
            if (g >= 0 && best_[g] != i) continue;
            if (g >= 0) best_[g] = -1;
            out.feature[kept] = out.feature[i];
            out.value[kept] = out.value[i];
            out.share[kept] = out.share[i];
            out.node[kept] = out.node[i];
            out.priority[kept++] = out.priority[i];
        }
        out.size = kept;
    }

    const Plan& plan_;
    Held held_;
    Key key_{};
    Survivors survivors_[kGroup];
    Hits hits_[kGroup];
    Children children_[kGroup];
    Picked first_, rest_;
    Verdict verdict_;
    Quantised quantised_[kGroup] = {};
    float shared_[kGroup] = {};
    float* factors_ = nullptr;
    float* dots_ = nullptr;
    int64_t* best_ = nullptr;
    Scratch factor_memory_, quad_memory_, dot_memory_, best_memory_, parent_memory_;
};

static GroupSampler* make_sampler(const Plan& plan) {
    if (plan.sequences()) return new Sampler<true>(plan);
    return new Sampler<false>(plan);
}
