#include "encode.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "kernels.hpp"
#include "select_parts.hpp"

namespace synthkern {

namespace {

constexpr int64_t kRows = 48;  // to a part: their bounds stay in the cache
constexpr int64_t kSampled = 64;  // inputs that a batch's bound is guessed by
constexpr float kLargest = 1e9f;  // of norms and biases: what is made of them stays finite
constexpr float kLeast = std::numeric_limits<float>::quiet_NaN();  // what everything exceeds

int64_t parts_of(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

bool is_small(float x) { return std::abs(x) < kLargest; }

float below(float x) { return std::nextafter(x, -std::numeric_limits<float>::infinity()); }

// The latents as codes, and what bounds are made of.
class Latents {
  public:
    Latents(const Encoder& encoder, const float* bounds, int threads, const Interrupt& interrupt)
        : coder_(kernels().coder), encoder_(encoder) {
        if (coder_ == nullptr || coder_->code_levels(encoder.dim) == 0) return;
        words_ = coder_->code_words(encoder.dim);
        const int64_t tile = coder_->latents, tiles = parts_of(encoder.width, tile);
        padded_ = tiles * tile;
        codes_.resize(size_t(padded_ * words_));
        for (auto* terms : {&step_, &norm_, &rest_, &shift_}) terms->resize(size_t(padded_));
        std::atomic<bool> fine{true};
        parallel(tiles, threads, interrupt, [&] {
            return [&, coded = std::vector<CodedRow>(size_t(tile))](int64_t t, Poll&) mutable {
                const int64_t first = t * tile, count = std::min(tile, encoder.width - first);
                coder_->code_latents(encoder.vectors + first * encoder.dim, count, encoder.dim,
                                     codes_.data() + first * words_, coded.data());
                for (int64_t k = 0; k < count; ++k)
                    if (!add(first + k, coded[size_t(k)], bounds)) fine = false;
            };
        });
        is_fine_ = fine;
    }

    bool is_fine() const { return is_fine_; }
    int64_t padded() const { return padded_; }
    int64_t words() const { return words_; }
    const Coder& coder() const { return *coder_; }
    const int32_t* codes(int64_t first) const { return codes_.data() + first * words_; }
    LatentTerms terms(int64_t first) const {
        return {&step_[size_t(first)], &norm_[size_t(first)], &rest_[size_t(first)],
                &shift_[size_t(first)]};
    }

  private:
    bool add(int64_t m, const CodedRow& row, const float* bounds) {
        const float scale = encoder_.scale != nullptr ? encoder_.scale[m] : 1;
        const float bias = encoder_.bias != nullptr ? encoder_.bias[m] : 0;
        const float bound = bounds != nullptr ? bounds[m] : 0;
        const auto i = size_t(m);
        step_[i] = row.step * scale;
        norm_[i] = row.norm * scale;
        rest_[i] = row.rest * scale;
        // Rounding of the sums that biases and bounds are in; the last, of what underflows.
        const float rounding = 0x1p-20f * (std::abs(bias) * scale + std::abs(bound)) + 1e-30f;
        // Everything is above minus infinity or NaN, and nothing above infinity.
        constexpr float kInfinity = std::numeric_limits<float>::infinity();
        shift_[i] = !(bound > -kLargest) ? kInfinity
                    : bound == kInfinity ? -kInfinity
                                         : bias * scale - bound + rounding;
        return is_small(row.norm) && is_small(bias) && scale >= 0 && is_small(scale);
    }

    const Coder* coder_;
    const Encoder& encoder_;
    bool is_fine_ = false;
    int64_t words_ = 0, padded_ = 0;
    std::vector<int32_t> codes_;
    std::vector<float> step_, norm_, rest_, shift_;
};

// Some inputs' bounds of keys, and the keys of those that are asked for; one for each thread.
class Inputs {
  public:
    Inputs(const Encoder& encoder, const Latents& latents)
        : encoder_(encoder),
          latents_(latents),
          codes_(size_t(kRows * latents.words())),
          coded_(size_t(kRows)),
          terms_(size_t(kRows)),
          bounds_(size_t(kRows * latents.padded())),
          dots_(size_t(encoder.width)) {}

    // rows: [count, dim], count <= kRows. False where a number is too large. `within` says
    // whether what the codes leave is added: without it bounds are estimates.
    bool set(const float* rows, int64_t count, bool within) {
        const Coder& coder = latents_.coder();
        coder.code_inputs(rows, count, encoder_.dim, codes_.data(), coded_.data());
        // Of the sums in the exact product, and of the bound's own.
        const float rounding = (float(encoder_.dim) / 16 + 48) * 0x1p-24f;
        for (int64_t b = 0; b < count; ++b) {
            const CodedRow& row = coded_[size_t(b)];
            if (!is_small(row.norm)) return false;
            const float rest = row.rest + rounding * row.norm, coded = row.norm + row.rest;
            terms_[size_t(b)] = {row.step, within ? rest : 0, within ? coded : 0, row.offset};
        }
        for (int64_t first = 0; first < latents_.padded(); first += coder.latents)
            for (int64_t b = 0; b < count; b += coder.inputs)
                coder.bound_keys(latents_.codes(first), codes_.data() + b * latents_.words(),
                                 latents_.words(), latents_.terms(first), &terms_[size_t(b)],
                                 bounds_.data() + b * latents_.padded() + first,
                                 latents_.padded());
        return true;
    }

    const float* bounds(int64_t b) const { return bounds_.data() + b * latents_.padded(); }

    // Pre-activations of an input, of the latents in `places`: [count].
    const float* values(const float* input, const int32_t* places, int64_t count) {
        kernels().dot_f32(places, count, encoder_.vectors, encoder_.dim, input, dots_.data());
        if (encoder_.bias != nullptr)
            for (int64_t i = 0; i < count; ++i) dots_[size_t(i)] += encoder_.bias[places[i]];
        return dots_.data();
    }

    float key(float value, int32_t place) const {
        return ordered(encoder_.scale != nullptr ? value * encoder_.scale[place] : value);
    }

  private:
    const Encoder& encoder_;
    const Latents& latents_;
    std::vector<int32_t> codes_;
    std::vector<CodedRow> coded_;
    std::vector<InputTerms> terms_;
    std::vector<float> bounds_, dots_;
};

int64_t find_large(const float* bounds, float bound, int64_t n, int32_t* places) {
    return kernels().find_large_f32(bounds, nullptr, nullptr, bound, n, places);
}

// Calls row(inputs, input, bounds, part, places) for every input, which adds to the part; none
// where the inputs are too large.
template <class Row>
std::optional<std::vector<Part<float>>> each_input(const Encoder& encoder, const Latents& latents,
                                                   int threads, const Interrupt& interrupt,
                                                   const Row& row) {
    std::vector<Part<float>> parts(size_t(parts_of(encoder.batch, kRows)));
    std::atomic<bool> fine{true};
    parallel(int64_t(parts.size()), threads, interrupt, [&] {
        return [&, inputs = Inputs(encoder, latents),
                places = std::vector<int32_t>(size_t(encoder.width))](int64_t chunk,
                                                                      Poll& poll) mutable {
            const int64_t first = chunk * kRows, count = std::min(kRows, encoder.batch - first);
            const float* input = encoder.inputs + first * encoder.dim;
            Part<float>& part = parts[size_t(chunk)];
            if (!fine || !inputs.set(input, count, true)) {
                fine = false;
                return;
            }
            for (int64_t b = 0; b < count && !poll.stopped(); ++b, input += encoder.dim) {
                const size_t before = part.indices.size();
                row(inputs, input, inputs.bounds(b), part, places.data());
                part.counts.push_back(int64_t(part.indices.size() - before));
            }
        };
    });
    if (!fine) return std::nullopt;
    return parts;
}

// A bound that somewhat more than `count` keys of the batch should exceed, by some of its inputs;
// NaN where they are too few to tell, or a number is too large.
float guess_bound(const Encoder& encoder, const Latents& latents, int64_t count) {
    const int64_t every = parts_of(encoder.batch, kSampled);
    Inputs inputs(encoder, latents);
    std::vector<float> keys;
    int64_t sampled = 0;
    for (int64_t b = 0; b < encoder.batch; b += every * kRows) {
        const int64_t rows = std::min(kRows, parts_of(encoder.batch - b, every));
        std::vector<float> some;
        for (int64_t k = 0; k < rows; ++k) {
            const float* input = encoder.inputs + (b + k * every) * encoder.dim;
            some.insert(some.end(), input, input + encoder.dim);
        }
        if (!inputs.set(some.data(), rows, false)) return kLeast;
        for (int64_t k = 0; k < rows; ++k)
            keys.insert(keys.end(), inputs.bounds(k), inputs.bounds(k) + encoder.width);
        sampled += rows;
    }
    const int64_t rank = rank_of_guess(double(count) * double(sampled) / double(encoder.batch));
    if (rank >= int64_t(keys.size())) return kLeast;
    std::nth_element(keys.begin(), keys.begin() + rank, keys.end(), std::greater<float>());
    return keys[size_t(rank)];
}

}  // namespace

std::optional<OwnedCsr<float>> encode_topk(const Encoder& encoder, int64_t k, bool positive,
                                           int threads, const Interrupt& interrupt) {
    const Latents latents(encoder, nullptr, threads, interrupt);
    if (!latents.is_fine()) return std::nullopt;
    const auto row = [&](Inputs& inputs, const float* input, const float* bounds,
                         Part<float>& part, int32_t* places) {
        if (k == 0) return;
        // No key is among the k largest that is below those of the k largest bounds.
        constexpr int64_t kStep = 256;  // latents between two looks at the bound
        Best<float> likely(k, positive);
        float bound = likely.bound();
        for (int64_t first = 0; first < encoder.width; first += kStep) {
            const int64_t found = find_large(bounds + first, likely.bound(),
                                             std::min(kStep, encoder.width - first), places);
            for (int64_t i = 0; i < found; ++i)
                likely.add(bounds[first + places[i]], int32_t(first) + places[i]);
            likely.shrink();
        }
        std::vector<int32_t> few;
        likely.write(few);
        if (int64_t(few.size()) == k) {
            const float* values = inputs.values(input, few.data(), k);
            float least = std::numeric_limits<float>::infinity();
            for (int64_t i = 0; i < k; ++i)
                least = std::min(least, inputs.key(values[i], few[size_t(i)]));
            bound = positive ? std::max(below(least), 0.0f) : below(least);
        }
        const int64_t found = find_large(bounds, bound, encoder.width, places);
        const float* values = inputs.values(input, places, found);
        Best<float> best(k, positive);
        for (int64_t i = 0; i < found; ++i) {
            const float key = inputs.key(values[i], places[i]);
            if (!(key <= best.bound())) best.add(key, places[i]);
        }
        best.shrink();
        const size_t before = part.indices.size();
        best.write(part.indices);
        // Both ascend.
        int64_t at = 0;
        for (size_t i = before; i < part.indices.size(); ++i) {
            while (places[at] != part.indices[i]) ++at;
            part.values.push_back(values[at]);
        }
    };
    const auto parts = each_input(encoder, latents, threads, interrupt, row);
    if (!parts) return std::nullopt;
    return joined(*parts, kEverything);
}

std::optional<OwnedCsr<float>> encode_batch_topk(const Encoder& encoder, int64_t count,
                                                 bool positive, int threads,
                                                 const Interrupt& interrupt) {
    const Latents latents(encoder, nullptr, threads, interrupt);
    if (!latents.is_fine()) return std::nullopt;
    float bound = guess_bound(encoder, latents, count);
    if (!(bound < std::numeric_limits<float>::infinity())) return std::nullopt;
    if (positive) bound = std::max(bound, 0.0f);
    const auto row = [&](Inputs& inputs, const float* input, const float* bounds,
                         Part<float>& part, int32_t* places) {
        const int64_t found = find_large(bounds, bound, encoder.width, places);
        const float* values = inputs.values(input, places, found);
        for (int64_t i = 0; i < found; ++i) {
            const float key = inputs.key(values[i], places[i]);
            if (key <= bound) continue;
            part.indices.push_back(places[i]);
            part.values.push_back(values[i]);
            part.keys.push_back(key);
        }
    };
    const auto parts = each_input(encoder, latents, threads, interrupt, row);
    if (!parts) return std::nullopt;
    std::vector<float> keys = all_keys(*parts);
    // Below the bound there may be more that count.
    if (int64_t(keys.size()) < count && !(positive && bound == 0)) return std::nullopt;
    return joined_largest(*parts, std::move(keys), count);
}

std::optional<OwnedCsr<float>> encode_above(const Encoder& encoder, const float* bounds,
                                            int threads, const Interrupt& interrupt) {
    const Latents latents(encoder, bounds, threads, interrupt);
    if (!latents.is_fine()) return std::nullopt;
    const auto row = [&](Inputs& inputs, const float* input, const float* over, Part<float>& part,
                         int32_t* places) {
        const int64_t found = find_large(over, 0, encoder.width, places);
        const float* values = inputs.values(input, places, found);
        for (int64_t i = 0; i < found; ++i) {
            if (values[i] <= bounds[places[i]]) continue;
            part.indices.push_back(places[i]);
            part.values.push_back(values[i]);
        }
    };
    const auto parts = each_input(encoder, latents, threads, interrupt, row);
    if (!parts) return std::nullopt;
    return joined(*parts, kEverything);
}

}  // namespace synthkern
