// One thread's sampler: part of kernels.cpp.

class Sampler final : public GroupSampler {
  public:
    explicit Sampler(const Plan& plan) : plan_(plan) {
        const Screen& screen = plan.screen;
        for (Survivors& list : survivors_) list.reserve(screen.num_blocks * kBlock);
        for (Hits& hits : hits_) hits.reserve(screen.num_blocks / 2);
        if (plan.copula()) {
            factors_ = memory_of<float>(factor_memory_, kGroup * plan.padded_rank);
            int32_t* pairs = memory_of<int32_t>(pair_memory_, kGroup * (screen.pairs + 1));
            for (int s = 0; s < kGroup; ++s) quantised_[s].pair = pairs + s * (screen.pairs + 1);
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
        if (plan_.copula())
            for (int s = 0; s < count; ++s) draw_factors(index + uint64_t(s), s);
        if (count == kGroup)
            screen<kGroup>(index, 0);
        else
            for (int s = 0; s < count; ++s) screen<1>(index + uint64_t(s), s);
        for (int s = 0; s < count; ++s) list_survivors(s);
        if (plan_.triangular) multiply_rows(count);
        for (int s = 0; s < count; ++s) {
            out[s].size = 0;
            const Survivors& list = survivors_[s];
            evaluate(list.feature, list.byte, plan_.triangular ? dots_ + s * dot_stride() : nullptr,
                     list.size, factors(s), index + uint64_t(s), out[s]);
        }
        if (plan_.forest.num_nodes > 0) walk(index, count, out);
    }

  private:
    // Lists of features are read in whole vectors, two at a time.
    static constexpr int64_t kPadding = 2 * kLanes;

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
        for (int64_t base = 0; base < plan_.padded_rank; base += 4 * kLanes) {
            const U32x8 first = splat(uint32_t(base / 4)) + U32x8{0, 1, 2, 3, 4, 5, 6, 7};
            Words8 words = counters(kFactor, first, index);
            philox<1>(&words, key_);
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
        if (!plan_.triangular) quantise(plan_, factor, quantised_[s]);
    }

    // Notes what may fire of the features that nothing gates, for `count` samples from number
    // `first` of the group.
    template <int count>
    void screen(uint64_t index, int first) {
        const Screen& screen = plan_.screen;
        for (int s = 0; s < count; ++s) hits_[first + s].size = 0;
        alignas(32) uint8_t bytes[count][kLanes][kBlock];
        for (int64_t base = 0; base < screen.num_blocks; base += kLanes) {
            const U32x8 element = load<U32x8>(screen.block + base);
            constexpr int together = count < 2 ? 1 : 2;
            for (int s = 0; s < count; s += together) {
                Words8 words[together];
                for (int k = 0; k < together; ++k)
                    words[k] = counters(kCoarse, element, index + uint64_t(s + k));
                philox<together>(words, key_);
                for (int k = 0; k < together; ++k) transpose_bytes(words[k], bytes[s + k][0]);
            }
            for (int k = 0; k < kLanes; k += 2) {
                uint32_t passed[count];
                look<count>(base + k, first, bytes[0][k], passed);
                const uint32_t looked = load<uint32_t>(screen.mask + base + k);
                for (int s = 0; s < count; ++s)
                    hits_[first + s].note(base + k, passed[s] & looked, bytes[s][k]);
            }
        }
    }

    // Which of the 32 features from `block` on pass, for each sample; their bytes are a block's
    // eight rows apart.
    template <int count>
    inline void look(int64_t block, int first, const uint8_t* bytes, uint32_t* passed) {
        const Screen& screen = plan_.screen;
        constexpr int stride = kLanes * kBlock;
        if (plan_.triangular) {
            for (int s = 0; s < count; ++s) passed[s] = ~uint32_t{0};
            return;
        }
        if (!plan_.copula()) {
            for (int s = 0; s < count; ++s)
                passed[s] = at_most(bytes + s * stride, screen.last_byte + block * kBlock);
            return;
        }
        I16x16 one[count], two[count];
#pragma GCC unroll 4
        for (int s = 0; s < count; ++s) one[s] = two[s] = splat16(quantised_[first + s].start);
        const int32_t* pair[count];
        for (int s = 0; s < count; ++s) pair[s] = quantised_[first + s].pair;
        const int size = screen.pairs;
        const uint8_t* loading = screen.loading + block * size * kTwoBlocks;
        for (int p = 0; p < size; ++p, loading += kTwoBlocks) {
#pragma GCC unroll 4
            for (int s = 0; s < count; ++s) {
                one[s] = add_pair(one[s], loading, pair[s][p]);
                two[s] = add_pair(two[s], loading + size * kTwoBlocks, pair[s][p]);
            }
        }
        const int16_t* threshold = screen.threshold + block * kBlock;
        const int16_t* noise = screen.noise + block * kBlock;
#pragma GCC unroll 4
        for (int s = 0; s < count; ++s)
            passed[s] = quantised_[first + s].screened
                            ? may_fire(one[s], two[s], threshold, noise, bytes + s * stride)
                            : ~uint32_t{0};
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
        for (int64_t base = 0; base < list.size; base += kLanes) {
            for (int s = 0; s < count; ++s)
                store(dots_ + s * dot_stride() + base, products(list.feature + base, factors(s)));
        }
    }

    // Eight loadings times factors.
    F32x8 products(const int32_t* ids, const float* factor) const {
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
        for (int lane = 0; lane < kLanes; ++lane) s[lane] = splat(0.0f);
        for (int64_t k = 0; k < length; k += kLanes) {
            const F32x8 x = load<F32x8>(factor + k);
#pragma GCC unroll 8
            for (int lane = 0; lane < kLanes; ++lane)
                s[lane] = s[lane] + load<F32x8>(row[lane] + k) * x;
        }
        return add_up(s);
    }

    // Some feature in the places behind a list's end.
    static void pad(int32_t* feature, int64_t size) {
        for (int64_t k = 0; k < kPadding; ++k) feature[size + k] = 0;
    }

    // Appends those of the given features that fire with a value above zero; `node` of an entry
    // is its place in `feature`. byte: their coarse bytes; dots: their products with the factors,
    // or null to compute them; all three may be read up to fifteen places behind `count`.
    void evaluate(const int32_t* feature, const uint8_t* byte, const float* dots, int64_t count,
                  const float* factor, uint64_t index, Entries& out) {
        out.reserve(out.size + count);
        verdict_.reserve(count);
        // First everything is computed, without a branch that could be mispredicted, so that
        // groups of eight overlap (sampling the standard workload: 7.0 us a sample, 7.6 otherwise).
        for (int64_t base = 0; base < count; base += 2 * kLanes) {
            if (count - base > kLanes)
                decide<2>(feature, byte, dots, base, factor, index);
            else
                decide<1>(feature, byte, dots, base, factor, index);
        }
        for (int64_t base = 0; base < count; base += 64) {
            uint64_t rest = load<uint64_t>(verdict_.fires + base / kLanes);
            if (count - base < 64) rest &= (uint64_t{1} << (count - base)) - 1;
            for (; rest; rest &= rest - 1) {
                const int64_t place = base + __builtin_ctzll(rest);
                out.feature[out.size] = feature[place];
                out.value[out.size] = verdict_.value[place];
                out.node[out.size] = int32_t(place);
                out.priority[out.size] = uint64_t{verdict_.high[place]} << 32 | verdict_.low[place];
                ++out.size;
            }
        }
    }

    // Verdicts on n times eight features from `base` on.
    template <int n>
    inline void decide(const int32_t* feature, const uint8_t* byte, const float* dots, int64_t base,
                       const float* factor, uint64_t index) {
        Words8 own[n];
        for (int k = 0; k < n; ++k)
            own[k] = counters(kFeature, load<U32x8>(feature + base + k * kLanes), index);
        philox<n>(own, key_);
        for (int k = 0; k < n; ++k) {
            const int64_t at = base + k * kLanes;
            const U32x8 coarse = widen(byte + at);
            U32x8 row[4];
            load_rows(plan_.row, load<U32x8>(feature + at), row);
            I32x8 fires;
            if (plan_.copula()) {
                const F32x8 s = dots ? load<F32x8>(dots + at) : products(feature + at, factor);
                const F32x8 noise = normals(coarse << 24 | own[k].w[0] >> 8);
                fires = (s + (F32x8)row[kNoise] * noise) > (F32x8)row[kThreshold];
            } else {
                fires = (I32x8)(coarse < row[kFireByte]) |
                        ((I32x8)(coarse == row[kFireByte]) & (I32x8)(own[k].w[0] < row[kFireWord]));
            }
            const F32x8 value = (F32x8)row[kMean] + (F32x8)row[kStd] * normals(own[k].w[1]);
            verdict_.fires[at / kLanes] = uint8_t(bits_of(fires & (I32x8)(value > splat(0.0f))));
            store(verdict_.value + at, value);
            store(verdict_.high + at, own[k].w[2]);
            store(verdict_.low + at, own[k].w[3]);
        }
    }

    struct Verdict {
        uint8_t* fires = nullptr;  // a bit per feature
        float* value = nullptr;
        uint32_t* high = nullptr;
        uint32_t* low = nullptr;  // words of the priority
        Scratch memory;

        void reserve(int64_t count) {
            const int64_t padded = (count + 2 * kLanes) / kLanes * kLanes;
            value = memory_of<float>(memory, 3 * padded + padded / (4 * kLanes) + 4);
            high = reinterpret_cast<uint32_t*>(value + padded);
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
            for (int64_t i = 0; i < active.size; ++i)
                active.node[i] = forest.node_of[active.feature[i]];
            if (forest.roots_grouped) keep_max_priority(active);
            children_[s].begin = 0;
        }
        for (bool more = true; more;) {
            more = false;
            for (int s = 0; s < count; ++s) {
                list_children(out[s], children_[s]);
                more = more || children_[s].size > 0;
            }
            for (int s = 0; s < count; ++s)
                if (children_[s].size > 0)
                    add_children(children_[s], factors(s), index + uint64_t(s), out[s]);
        }
    }

    // The children of a sample's latest active nodes.
    struct Children {
        int64_t begin = 0;  // the first entry whose children have not been looked at
        int64_t size = 0;
        int32_t* feature = nullptr;
        int32_t* node = nullptr;
        float* ratio = nullptr;   // what their values are multiplied by
        uint8_t* byte = nullptr;  // their coarse bytes
        Scratch memory;
        // The coarse blocks that their bytes come from: siblings tend to share one.
        int64_t num_blocks = 0;
        uint32_t* block = nullptr;
        int32_t* slot = nullptr;   // [size]
        uint8_t* bytes = nullptr;  // [num_blocks, 16]
        Scratch block_memory;

        void reserve(int64_t count) {
            const int64_t padded = count + kPadding;
            feature = memory_of<int32_t>(memory, padded * 4 + padded / 4 + 1);
            node = feature + padded;
            ratio = reinterpret_cast<float*>(node + padded);
            slot = node + 2 * padded;
            byte = reinterpret_cast<uint8_t*>(slot + padded);
            block = memory_of<uint32_t>(block_memory, padded + padded * kBlock / 4);
            bytes = reinterpret_cast<uint8_t*>(block + padded);
        }
    };

    void list_children(const Entries& active, Children& children) const {
        int64_t size = 0;
        for (int64_t i = children.begin; i < active.size; ++i)
            if (active.node[i] >= 0) size += plan_.forest.node[active.node[i]].num_children;
        children.size = size;
        if (size == 0) return;
        children.reserve(size);
        int64_t at = 0, blocks = 0;
        uint32_t block = ~uint32_t{0};
        for (int64_t i = children.begin; i < active.size; ++i) {
            if (active.node[i] < 0) continue;
            const Node& parent = plan_.forest.node[active.node[i]];
            const float scale = active.value[i] / mean_of(parent.feature);
            for (int32_t k = parent.child_begin; k < parent.child_end(); ++k, ++at) {
                const Node& node = plan_.forest.node[k];
                ask_for(node.feature);
                children.feature[at] = node.feature;
                children.node[at] = k;
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
    }

    float mean_of(int32_t feature) const { return load<float>(&plan_.row[feature][kMean]); }

    void draw_bytes(Children& children, uint64_t index) const {
        for (int k = 0; k < kLanes; ++k) children.block[children.num_blocks + k] = 0;
        for (int64_t base = 0; base < children.num_blocks; base += kLanes) {
            Words8 words = counters(kCoarse, load<U32x8>(children.block + base), index);
            philox<1>(&words, key_);
            transpose_bytes(words, children.bytes + base * kBlock);
        }
        for (int64_t i = 0; i < children.size; ++i)
            children.byte[i] =
                children.bytes[children.slot[i] * kBlock + children.feature[i] % kBlock];
    }

    void add_children(Children& children, const float* factor, uint64_t index, Entries& out) {
        const int64_t end = out.size;
        draw_bytes(children, index);
        evaluate(children.feature, children.byte, nullptr, children.size, factor, index, out);
        // Entries come in the order of the nodes, in which the members of an exclusive group are
        // neighbours: of each the greatest priority stays, a tie going to the first.
        int64_t kept = end;
        int32_t last_group = -1;
        for (int64_t i = end; i < out.size; ++i) {
            const int32_t place = out.node[i], node = children.node[place];
            const float value = out.value[i] * children.ratio[place];
            if (!(value > 0)) continue;
            const int32_t group = plan_.forest.node[node].group();
            const bool rival = group >= 0 && group == last_group;
            if (rival && out.priority[i] <= out.priority[kept - 1]) continue;
            const int64_t to = rival ? kept - 1 : kept++;
            last_group = group;
            out.feature[to] = out.feature[i];
            out.value[to] = value;
            out.node[to] = node;
            out.priority[to] = out.priority[i];
        }
        out.size = kept;
        children.begin = end;
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
            out.node[kept] = out.node[i];
            out.priority[kept++] = out.priority[i];
        }
        out.size = kept;
    }

    const Plan& plan_;
    Key key_{};
    Survivors survivors_[kGroup];
    Hits hits_[kGroup];
    Children children_[kGroup];
    Verdict verdict_;
    Quantised quantised_[kGroup] = {};
    float* factors_ = nullptr;
    float* dots_ = nullptr;
    int64_t* best_ = nullptr;
    Scratch factor_memory_, pair_memory_, dot_memory_, best_memory_;
};

static GroupSampler* make_sampler(const Plan& plan) { return new Sampler(plan); }
