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

constexpr int64_t kRows = 48;     // to a part: their bounds stay in the cache
constexpr int64_t kSampled = 32;  // inputs that a batch's bound is guessed by
constexpr int64_t kJudged = 16;   // inputs that tell whether codes say enough
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
        for (auto* terms : {&step_, &norm_, &rest_, &shift_, &slack_})
            terms->resize(size_t(padded_));
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
                &shift_[size_t(first)], &slack_[size_t(first)]};
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
        // Rounding of the sums that biases and bounds are in; the last, of what underflows: a step
        // times a scale is off by 2**-126 at most, of which there are up to 1e17 (1e9 of an input's
        // norm, 32767 levels, the root of dim).
        const float rounding = 0x1p-20f * (std::abs(bias) * scale + std::abs(bound)) + 1e-21f;
        // Everything is above minus infinity or NaN, and nothing above infinity.
        constexpr float kInfinity = std::numeric_limits<float>::infinity();
        shift_[i] = !(bound > -kLargest) ? kInfinity
                    : bound == kInfinity ? -kInfinity
                                         : bias * scale - bound;
        slack_[i] = rounding;
        return is_small(row.norm) && is_small(bias) && scale >= 0 && is_small(scale);
    }

    const Coder* coder_;
    const Encoder& encoder_;
    bool is_fine_ = false;
    int64_t words_ = 0, padded_ = 0;
    std::vector<int32_t> codes_;
    std::vector<float> step_, norm_, rest_, shift_, slack_;
};

// Some inputs' bounds of keys; one for each thread.
class Bounds {
  public:
    Bounds(const Encoder& encoder, const Latents& latents)
        : encoder_(encoder),
          latents_(latents),
          codes_(size_t(kRows * latents.words())),
          coded_(size_t(kRows)),
          terms_(size_t(kRows)),
          bounds_(size_t(kRows * latents.padded())) {}

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
                                 encoder_.magnitude, bounds_.data() + b * latents_.padded() + first,
                                 latents_.padded());
        return true;
    }

    const float* of(int64_t b) const { return bounds_.data() + b * latents_.padded(); }

  private:
    const Encoder& encoder_;
    const Latents& latents_;
    std::vector<int32_t> codes_;
    std::vector<CodedRow> coded_;
    std::vector<InputTerms> terms_;
    std::vector<float> bounds_;
};

// Products with latents [count] to pre-activations.
void add_biases(const Encoder& encoder, const int32_t* latents, int64_t count, float* values) {
    if (encoder.bias == nullptr) return;
    for (int64_t i = 0; i < count; ++i) values[i] += encoder.bias[latents[i]];
}

float key_of(const Encoder& encoder, float value, int32_t latent) {
    const float key = encoder.scale != nullptr ? value * encoder.scale[latent] : value;
    return ordered(encoder.magnitude ? std::abs(key) : key);
}

int64_t find_large(const float* bounds, float bound, int64_t n, int32_t* places) {
    return kernels().find_large_f32(bounds, nullptr, nullptr, bound, false, n, places);
}

// The latents that may be among the chosen of some inputs, and their pre-activations.
struct Candidates {
    std::vector<int64_t> offsets;
    std::vector<int32_t> latents;
    std::vector<float> values;

    // By latent, whose rows come from far: inputs: [rows, dim] stay near. Of 1,024 inputs with 80
    // candidates each this takes 4 ms where input by input it took 5.5.
    void compute(const Encoder& encoder, const float* inputs) {
        std::vector<int64_t> next(size_t(encoder.width) + 1);
        for (const int32_t latent : latents) ++next[size_t(latent) + 1];
        for (size_t m = 1; m < next.size(); ++m) next[m] += next[m - 1];
        const size_t count = latents.size();
        std::vector<int32_t> ordered(count), rows(count);
        std::vector<int64_t> place(count);
        for (size_t b = 0; b + 1 < offsets.size(); ++b)
            for (int64_t i = offsets[b]; i < offsets[b + 1]; ++i) {
                const auto at = size_t(next[size_t(latents[size_t(i)])]++);
                ordered[at] = latents[size_t(i)];
                rows[at] = int32_t(b);
                place[at] = i;
            }
        std::vector<float> found(count);
        kernels().dot_f32(ordered.data(), rows.data(), int64_t(count), encoder.vectors, inputs,
                          encoder.dim, found.data());
        add_biases(encoder, ordered.data(), int64_t(count), found.data());
        values.resize(count);
        for (size_t at = 0; at < count; ++at) values[size_t(place[at])] = found[at];
    }
};

// Inputs to a part: as many as stay in a core's own cache, in as many parts as keep all threads.
int64_t inputs_to_part(const Encoder& encoder, int threads) {
    constexpr int64_t kBytes = 256 * 1024;
    const int64_t most = std::max<int64_t>(kBytes / (4 * encoder.dim + 4), kRows);
    const int64_t team = std::max(threads, 1), batch = std::max<int64_t>(encoder.batch, 1);
    const int64_t rounds = parts_of(batch, most * team);
    return std::max(parts_of(parts_of(batch, rounds * team), 12) * 12, kRows);
}

// Calls look(input, bounds) for some inputs of the batch, to judge it by; returns how many were
// looked at, -1 where one is too large.
template <class Look>
int64_t look_at_some(const Encoder& encoder, const Latents& latents, int64_t sampled, bool within,
                     const Look& look) {
    const int64_t every = parts_of(encoder.batch, sampled);
    Bounds bounds(encoder, latents);
    int64_t looked = 0;
    for (int64_t b = 0; b < encoder.batch; b += every * kRows) {
        const int64_t rows = std::min(kRows, parts_of(encoder.batch - b, every));
        std::vector<float> some;
        for (int64_t k = 0; k < rows; ++k) {
            const float* input = encoder.inputs + (b + k * every) * encoder.dim;
            some.insert(some.end(), input, input + encoder.dim);
        }
        if (!bounds.set(some.data(), rows, within)) return -1;
        for (int64_t k = 0; k < rows; ++k)
            look(encoder.inputs + (b + k * every) * encoder.dim, bounds.of(k));
        looked += rows;
    }
    return looked;
}

// For every input, find(input, bounds, places) writes the latents that may be chosen and returns
// how many; then choose(latents, values, count, part) adds those that are. None where an input is
// too large, or so many may be chosen that all products take less time: beside one huge dimension
// all others have few levels.
template <class Find, class Choose>
std::optional<std::vector<Part<float>>> each_input(const Encoder& encoder, const Latents& latents,
                                                   int threads, const Interrupt& interrupt,
                                                   const Find& find, const Choose& choose) {
    int64_t likely = 0;
    std::vector<int32_t> some(size_t(encoder.width));
    const int64_t looked =
        look_at_some(encoder, latents, kJudged, true, [&](const float* input, const float* bounds) {
            likely += find(input, bounds, some.data());
        });
    if (looked < 0 || double(likely) > encoder.most * double(looked * encoder.width))
        return std::nullopt;
    const int64_t inputs = inputs_to_part(encoder, threads);
    std::vector<Part<float>> parts(size_t(parts_of(encoder.batch, inputs)));
    std::atomic<bool> fine{true};
    parallel(int64_t(parts.size()), threads, interrupt, [&] {
        return [&, bounds = Bounds(encoder, latents),
                places = std::vector<int32_t>(size_t(encoder.width))](int64_t chunk,
                                                                      Poll& poll) mutable {
            const int64_t first = chunk * inputs, end = std::min(first + inputs, encoder.batch);
            Candidates candidates;
            candidates.offsets.push_back(0);
            for (int64_t b = first; b < end && fine && !poll.stopped(); ++b) {
                const int64_t k = (b - first) % kRows;
                const float* input = encoder.inputs + b * encoder.dim;
                if (k == 0 && !bounds.set(input, std::min(kRows, end - b), true)) fine = false;
                const int64_t found = find(input, bounds.of(k), places.data());
                candidates.latents.insert(candidates.latents.end(), places.begin(),
                                          places.begin() + found);
                candidates.offsets.push_back(int64_t(candidates.latents.size()));
            }
            if (!fine || poll.stopped()) return;
            candidates.compute(encoder, encoder.inputs + first * encoder.dim);
            Part<float>& part = parts[size_t(chunk)];
            for (size_t b = 0; b + 1 < candidates.offsets.size(); ++b) {
                const int64_t from = candidates.offsets[b], to = candidates.offsets[b + 1];
                const size_t before = part.indices.size();
                choose(candidates.latents.data() + from, candidates.values.data() + from, to - from,
                       part);
                part.counts.push_back(int64_t(part.indices.size() - before));
            }
        };
    });
    if (!fine) return std::nullopt;
    return parts;
}

// A bound that somewhat more than `count` keys of the batch should exceed, by some of its inputs.
// Infinity where a number is too large, NaN where they are too few to tell.
float guess_bound(const Encoder& encoder, const Latents& latents, int64_t count) {
    const double sampled = double(std::min(encoder.batch, kSampled));
    const auto rank = size_t(rank_of_guess(double(count) * sampled / double(encoder.batch)));
    float bound = kLeast;
    std::vector<float> keys;
    std::vector<int32_t> places(size_t(encoder.width));
    const auto shrink = [&] {
        if (keys.size() <= rank) return;
        const auto last = keys.begin() + std::ptrdiff_t(rank);
        std::nth_element(keys.begin(), last, keys.end(), std::greater<float>());
        bound = *last;
        keys.resize(rank + 1);
    };
    const int64_t looked =
        look_at_some(encoder, latents, kSampled, false, [&](const float*, const float* estimates) {
            const int64_t found = find_large(estimates, bound, encoder.width, places.data());
            for (int64_t i = 0; i < found; ++i) keys.push_back(estimates[places[size_t(i)]]);
            if (keys.size() > 2 * rank) shrink();
        });
    shrink();
    return looked < 0 ? std::numeric_limits<float>::infinity() : bound;
}

}  // namespace

std::optional<OwnedCsr<float>> encode_topk(const Encoder& encoder, int64_t k, bool positive,
                                           int threads, const Interrupt& interrupt) {
    const Latents latents(encoder, nullptr, threads, interrupt);
    if (!latents.is_fine()) return std::nullopt;
    const auto find = [&](const float* input, const float* bounds, int32_t* places) -> int64_t {
        if (k == 0) return 0;
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
            std::vector<float> values(few.size());
            kernels().dot_f32(few.data(), nullptr, k, encoder.vectors, input, encoder.dim,
                              values.data());
            add_biases(encoder, few.data(), k, values.data());
            float least = std::numeric_limits<float>::infinity();
            for (size_t i = 0; i < few.size(); ++i)
                least = std::min(least, key_of(encoder, values[i], few[i]));
            bound = positive ? std::max(below(least), 0.0f) : below(least);
        }
        return find_large(bounds, bound, encoder.width, places);
    };
    const auto choose = [&](const int32_t* found, const float* values, int64_t count,
                            Part<float>& part) {
        Best<float> best(k, positive);
        for (int64_t i = 0; i < count; ++i) {
            const float key = key_of(encoder, values[i], found[i]);
            if (!(key <= best.bound())) best.add(key, found[i]);
        }
        best.shrink();
        const size_t before = part.indices.size();
        best.write(part.indices);
        // Both ascend.
        for (size_t i = before; i < part.indices.size(); ++i) {
            while (*found != part.indices[i]) ++found, ++values;
            part.values.push_back(*values);
        }
    };
    const auto parts = each_input(encoder, latents, threads, interrupt, find, choose);
    if (!parts) return std::nullopt;
    return joined(*parts, kEverything);
}

std::optional<OwnedCsr<float>> encode_batch_topk(const Encoder& encoder, int64_t count,
                                                 bool positive, int threads,
                                                 const Interrupt& interrupt) {
    const Latents latents(encoder, nullptr, threads, interrupt);
    if (!latents.is_fine() || encoder.batch == 0) return std::nullopt;
    float bound = guess_bound(encoder, latents, count);
    if (!(bound < std::numeric_limits<float>::infinity())) return std::nullopt;
    if (positive) bound = std::max(bound, 0.0f);
    const auto find = [&](const float*, const float* bounds, int32_t* places) {
        return find_large(bounds, bound, encoder.width, places);
    };
    const auto choose = [&](const int32_t* found, const float* values, int64_t number,
                            Part<float>& part) {
        for (int64_t i = 0; i < number; ++i) {
            const float key = key_of(encoder, values[i], found[i]);
            if (key <= bound) continue;
            part.indices.push_back(found[i]);
            part.values.push_back(values[i]);
            part.keys.push_back(key);
        }
    };
    const auto parts = each_input(encoder, latents, threads, interrupt, find, choose);
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
    const auto find = [&](const float*, const float* over, int32_t* places) {
        return find_large(over, 0, encoder.width, places);
    };
    const auto choose = [&](const int32_t* found, const float* values, int64_t number,
                            Part<float>& part) {
        for (int64_t i = 0; i < number; ++i) {
            if (values[i] <= bounds[found[i]]) continue;
            part.indices.push_back(found[i]);
            part.values.push_back(values[i]);
        }
    };
    const auto parts = each_input(encoder, latents, threads, interrupt, find, choose);
    if (!parts) return std::nullopt;
    return joined(*parts, kEverything);
}

}  // namespace synthkern
