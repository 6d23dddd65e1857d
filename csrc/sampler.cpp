#include "sampler.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "kernels.hpp"
#include "walk.hpp"

namespace synthkern {

namespace {

constexpr int64_t kChunk = 32;  // samples; a chunk of the standard workload takes 0.5 ms

class Worker {
  public:
    Worker(const Plan& plan, Key key, uint64_t start, int64_t count, const Hidden* hidden,
           std::vector<CsrChunk>* chunks)
        : plan_(plan),
          key_(key),
          start_(start),
          count_(count),
          hidden_(hidden),
          chunks_(chunks),
          sampler_(kernels().make_sampler(plan)) {
        for (int m = 0; m < plan.num_later; ++m) walkers_.emplace_back(plan.later[m], plan.mean);
    }

    void operator()(int64_t chunk, Poll& poll) {
        const int64_t end = std::min(count_, (chunk + 1) * kChunk);
        for (int64_t i = chunk * kChunk; i < end && !poll.stopped(); i += kGroup) {
            const int group = int(std::min<int64_t>(kGroup, end - i));
            sampler_->sample(key_, start_ + uint64_t(i), group, entries_);
            for (int s = 0; s < group; ++s) {
                sort(entries_[s], samples_[s]);
                apply_later(start_ + uint64_t(i + s), samples_[s]);
                if (chunks_ != nullptr) append(samples_[s], (*chunks_)[size_t(chunk)]);
            }
            if (hidden_ == nullptr) continue;
            for (int s = 0; s < group; ++s)
                gather(samples_[s], s + 1 < group ? &samples_[s + 1] : nullptr, i + s);
        }
    }

  private:
    struct Sample {
        std::vector<int32_t> features;
        std::vector<float> values;
    };

    // Features ascending: a handful of ascending runs come from the kernel, so that sorting keys
    // of 64 bits is cheap.
    void sort(const Entries& entries, Sample& sample) {
        order_.resize(size_t(entries.size));
        for (int64_t k = 0; k < entries.size; ++k)
            order_[size_t(k)] = uint64_t(uint32_t(entries.feature[k])) << 32 | uint64_t(k);
        if (!std::is_sorted(order_.begin(), order_.end())) std::sort(order_.begin(), order_.end());
        sample.features.resize(order_.size());
        sample.values.resize(order_.size());
        for (size_t k = 0; k < order_.size(); ++k) {
            sample.features[k] = int32_t(order_[k] >> 32);
            sample.values[k] = entries.value[uint32_t(order_[k])];
        }
    }

    void apply_later(uint64_t index, Sample& sample) {
        if (walkers_.empty()) return;
        for (size_t m = 0; m < walkers_.size(); ++m)
            walkers_[m].apply(sample.features.data(), sample.values.data(),
                              int64_t(sample.features.size()), key_, index, uint32_t(m + 1));
        size_t kept = 0;
        for (size_t k = 0; k < sample.features.size(); ++k) {
            if (!(sample.values[k] > 0)) continue;
            sample.features[kept] = sample.features[k];
            sample.values[kept++] = sample.values[k];
        }
        sample.features.resize(kept);
        sample.values.resize(kept);
    }

    static void append(const Sample& sample, CsrChunk& to) {
        to.counts.push_back(int64_t(sample.features.size()));
        to.indices.insert(to.indices.end(), sample.features.begin(), sample.features.end());
        to.values.insert(to.values.end(), sample.values.begin(), sample.values.end());
    }

    void gather(const Sample& sample, const Sample* next, int64_t i) {
        kernels().gather_f32(sample.features.data(), sample.values.data(),
                             int64_t(sample.features.size()),
                             next != nullptr ? next->features.data() : nullptr,
                             next != nullptr ? int64_t(next->features.size()) : 0, hidden_->vectors,
                             hidden_->dim, hidden_->bias, hidden_->out + i * hidden_->dim);
    }

    const Plan& plan_;
    const Key key_;
    const uint64_t start_;
    const int64_t count_;
    const Hidden* hidden_;
    std::vector<CsrChunk>* chunks_;
    std::unique_ptr<GroupSampler> sampler_;
    std::vector<Walker<float>> walkers_;
    Entries entries_[kGroup];
    Sample samples_[kGroup];
    std::vector<uint64_t> order_;
};

}  // namespace

std::vector<CsrChunk> sample(const Plan& plan, uint64_t seed, uint64_t start, int64_t count,
                             int threads, bool want_features, const Hidden* hidden,
                             const Interrupt& interrupt) {
    const int64_t num_chunks = (count + kChunk - 1) / kChunk;
    std::vector<CsrChunk> chunks(want_features ? size_t(num_chunks) : 0);
    parallel(num_chunks, threads, interrupt, [&] {
        auto worker = std::make_unique<Worker>(plan, key_of(seed), start, count, hidden,
                                               want_features ? &chunks : nullptr);
        return [worker = std::move(worker)](int64_t chunk, Poll& poll) { (*worker)(chunk, poll); };
    });
    return chunks;
}

}  // namespace synthkern
