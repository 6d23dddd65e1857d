#include "sampler.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "forest.hpp"
#include "kernels.hpp"

namespace synthkern {

namespace {

// How the samples are split: the first chunk ends where a whole one would that begins `lead`
// samples before the first of them.
struct Chunks {
    int64_t size, lead;

    int64_t number(int64_t count) const {
        return count / size + (count % size + lead + size - 1) / size;
    }
};

// Samples that a thread takes at a time: 0.4 ms of the standard workload, fewer where every thread
// would get less than two such chunks.
int64_t chunk_size(int64_t count, int threads) {
    constexpr int64_t most = 32;
    const int64_t fair = count / (2 * int64_t{std::max(threads, 1)});
    return std::max<int64_t>(kGroup, std::min(most, fair / kGroup * kGroup));
}

// Whole sequences of up to 512 samples where every thread gets some, as the first sample of a chunk
// costs as much as dozens of those that follow it in its sequence.
Chunks chunks_of(const Plan& plan, uint64_t start, int64_t count, int threads) {
    if (!plan.sequences()) return {chunk_size(count, threads), 0};
    constexpr int64_t most = 512, least = 128;
    const int64_t length = plan.sequence.length;
    const int64_t fair = count / std::max(threads, 1) + 1;
    if (length > std::min(fair, most)) return {std::min(std::max(fair, int64_t{kGroup}), most), 0};
    const int64_t together = std::max<int64_t>(1, std::min(fair, least) / length);
    return {together * length, int64_t(start % uint64_t(length))};
}

class Worker {
  public:
    Worker(const Plan& plan, Key key, uint64_t start, int64_t count, Chunks split,
           const Hidden* hidden, std::vector<CsrChunk>* chunks)
        : plan_(plan),
          key_(key),
          start_(start),
          count_(count),
          split_(split),
          hidden_(hidden),
          chunks_(chunks),
          sampler_(kernels().make_sampler(plan)) {
        if (hidden != nullptr && hidden->noise != nullptr)
            noise_factors_.resize(size_t(noise_room(hidden->noise->rank)));
        for (int m = 0; m < plan.num_later; ++m) walkers_.emplace_back(plan.later[m], plan.mean);
    }

    // Samples the whole chunk before it gathers, so that the tables that sampling reads are not
    // driven out of the near caches by the dictionary's rows after every few samples.
    void operator()(int64_t chunk, Poll& poll) {
        const int64_t from = chunk * split_.size - split_.lead, begin = std::max<int64_t>(0, from),
                      end = from + std::min(count_ - from, split_.size);
        CsrChunk& drawn = chunks_ != nullptr ? (*chunks_)[size_t(chunk)] : own_;
        drawn.counts.clear();
        drawn.indices.clear();
        drawn.values.clear();
        for (int64_t i = begin; i < end && !poll.stopped();) {
            const int group = group_size(start_ + uint64_t(i), end - i);
            sampler_->sample(key_, start_ + uint64_t(i), group, entries_);
            for (int s = 0; s < group; ++s) append(entries_[s], start_ + uint64_t(i + s), drawn);
            i += group;
        }
        if (hidden_ != nullptr) gather(drawn, begin, poll);
    }

  private:
    // How many of the `left` samples from number `index` on are drawn together, of one sequence.
    int group_size(uint64_t index, int64_t left) const {
        uint64_t size = uint64_t(std::min<int64_t>(kGroup, left));
        if (!plan_.sequences()) return int(size);
        const uint64_t length = plan_.sequence.length;
        size = std::min(size, length - index % length);
        // Where numbers wrap, another sequence begins.
        return int(std::min(size - 1, ~index) + 1);
    }

    // Features ascending.
    void append(const Entries& entries, uint64_t index, CsrChunk& to) {
        const size_t first = to.indices.size(), size = size_t(entries.size);
        to.indices.resize(first + size);
        to.values.resize(first + size);
        find_places(entries.feature, size);
        for (size_t k = 0; k < size; ++k) {
            to.indices[first + size_t(place_[k])] = entries.feature[k];
            to.values[first + size_t(place_[k])] = entries.value[k];
        }
        if (!walkers_.empty()) apply_later(index, first, to);
        if (plan_.manifolds.dimension > 0)
            apply_manifolds(plan_, key_, index, first, to.indices, to.values);
        to.counts.push_back(int64_t(to.indices.size() - first));
    }

    // The place of each of `size` features, which differ, in their ascending order.
    void find_places(const int32_t* feature, size_t size) {
        place_.assign(size, 0);
        // Comparing each with each takes vectors and no branch: of the 35 of the standard workload
        // half as long as sorting them.
        if (size <= 128) {
            int32_t* place = place_.data();
            for (size_t j = 0; j < size; ++j) {
                const int32_t other = feature[j];
                for (size_t k = 0; k < size; ++k) place[k] += feature[k] > other;
            }
            return;
        }
        order_.resize(size);
        for (size_t k = 0; k < size; ++k) order_[k] = uint64_t(uint32_t(feature[k])) << 32 | k;
        if (!std::is_sorted(order_.begin(), order_.end())) std::sort(order_.begin(), order_.end());
        for (size_t k = 0; k < size; ++k) place_[uint32_t(order_[k])] = int32_t(k);
    }

    // The later forests, on the entries from `first` on.
    void apply_later(uint64_t index, size_t first, CsrChunk& to) {
        for (size_t m = 0; m < walkers_.size(); ++m)
            walkers_[m].apply(to.indices.data() + first, to.values.data() + first,
                              int64_t(to.indices.size() - first), key_, index, uint32_t(m + 1));
        size_t kept = first;
        for (size_t k = first; k < to.indices.size(); ++k) {
            if (!(to.values[k] > 0)) continue;
            to.indices[kept] = to.indices[k];
            to.values[kept++] = to.values[k];
        }
        to.indices.resize(kept);
        to.values.resize(kept);
    }

    void gather(const CsrChunk& drawn, int64_t begin, Poll& poll) {
        const int32_t* indices = drawn.indices.data();
        const float* values = drawn.values.data();
        float* out = hidden_->out + begin * hidden_->dim;
        for (size_t i = 0; i < drawn.counts.size() && !poll.stopped(); ++i) {
            const int64_t size = drawn.counts[i];
            const int64_t next = i + 1 < drawn.counts.size() ? drawn.counts[i + 1] : 0;
            kernels().gather_f32(indices, values, size, indices + size, next, hidden_->vectors,
                                 hidden_->dim, hidden_->bias, out);
            // While the row is in the cache (SynthSAEBench-16k with AVX-512: 11.8 us a sample
            // without noise, 12.7 with isotropic noise, 13.3 of rank 16; one core).
            if (hidden_->noise != nullptr)
                kernels().add_noise_f32(*hidden_->noise, key_, start_ + uint64_t(begin) + i,
                                        noise_factors_.data(), out);
            indices += size;
            values += size;
            out += hidden_->dim;
        }
    }

    const Plan& plan_;
    const Key key_;
    const uint64_t start_;
    const int64_t count_;
    const Chunks split_;
    const Hidden* hidden_;
    std::vector<CsrChunk>* chunks_;
    std::unique_ptr<GroupSampler> sampler_;
    std::vector<Walker<float>> walkers_;
    Entries entries_[kGroup];
    CsrChunk own_;
    std::vector<int32_t> place_;
    std::vector<uint64_t> order_;
    std::vector<float> noise_factors_;
};

}  // namespace

std::vector<CsrChunk> sample(const Plan& plan, uint64_t seed, uint64_t start, int64_t count,
                             int threads, bool want_features, const Hidden* hidden,
                             const Interrupt& interrupt) {
    const Chunks split = chunks_of(plan, start, count, threads);
    const int64_t num_chunks = split.number(count);
    std::vector<CsrChunk> chunks(want_features ? size_t(num_chunks) : 0);
    parallel(num_chunks, threads, interrupt, [&] {
        auto worker = std::make_unique<Worker>(plan, key_of(seed), start, count, split, hidden,
                                               want_features ? &chunks : nullptr);
        return [worker = std::move(worker)](int64_t chunk, Poll& poll) { (*worker)(chunk, poll); };
    });
    return chunks;
}

}  // namespace synthkern
