// What is compiled once per instruction set, and how the variant is chosen at run time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "noise.hpp"
#include "plan.hpp"
#include "stream.hpp"

namespace synthkern {

// Samples drawn together, so that a pass over the screen's tables serves several.
constexpr int kGroup = 4;

// The active features of one sample. Memory comes from functions compiled for the baseline.
struct Entries {
    int32_t* feature = nullptr;
    float* value = nullptr;
    float* share = nullptr;   // the value over the feature's mean
    int32_t* node = nullptr;  // in the first forest, -1 outside
    uint64_t* priority = nullptr;
    int64_t size = 0;

    Entries() = default;
    Entries(const Entries&) = delete;
    Entries& operator=(const Entries&) = delete;
    ~Entries();
    void reserve(int64_t count);

  private:
    int64_t capacity_ = 0;
};

// Scratch memory that only grows; its contents do not survive growth.
struct Scratch {
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch();
    void* reserve(int64_t bytes);

  private:
    void* data_ = nullptr;
    int64_t capacity_ = 0;
};

// One thread's sampler of one plan.
class GroupSampler {
  public:
    virtual ~GroupSampler();
    // Writes samples index ... index + count - 1 (count <= kGroup), features in no special order,
    // the first forest applied.
    virtual void sample(Key key, uint64_t index, int count, Entries* out) = 0;
};

// A row of numbers as whole multiples of a step: row = step * codes + rest.
struct CodedRow {
    float step;
    float norm, rest;  // at least the norms of the row and of the rest
    int32_t offset;    // of an input's products with latents, whose codes are stored above 0
};

// What bound_keys does, per input and per latent:
//     key = step * latent's step * (codes . codes) + shift
//     off = rest * norm + coded * latent's rest + slack
// and of these key + off, or |key| + off.
struct InputTerms {
    float step, rest, coded;
    int32_t offset;
};
struct LatentTerms {
    const float *step, *norm, *rest, *shift, *slack;  // [latents] each
};

// Products by small integers, with a bound of what they are off.
struct Coder {
    int inputs, latents;  // that are multiplied with each other at once
    // Codes are in [-levels, levels]; 0 where dim is too large. words: [code_words(dim)] a row.
    int64_t (*code_levels)(int64_t dim);
    int64_t (*code_words)(int64_t dim);
    // rows: [count, dim], count <= latents; words: [code_words, latents].
    void (*code_latents)(const float* rows, int64_t count, int64_t dim, int32_t* words,
                         CodedRow* coded);
    // rows: [count, dim]; words: [count, code_words].
    void (*code_inputs)(const float* rows, int64_t count, int64_t dim, int32_t* words,
                        CodedRow* coded);
    // keys: [inputs, latents], `stride` from one row to the next; |key| with `magnitude`.
    void (*bound_keys)(const int32_t* latents, const int32_t* inputs, int64_t words,
                       const LatentTerms& terms, const InputTerms* rows, bool magnitude,
                       float* keys, int64_t stride);
};

struct Kernels {
    const char* name;
    GroupSampler* (*make_sampler)(const Plan& plan);
    // hidden[d] = fma(values[i], vectors[indices[i], d], ...) from bias[d], i ascending. indices,
    // values: [count]; next: [next_count], the rows that the following call reads; vectors:
    // [num_features, dim]; bias, hidden: [dim].
    void (*gather_f32)(const int32_t* indices, const float* values, int64_t count,
                       const int32_t* next, int64_t next_count, const float* vectors, int64_t dim,
                       const float* bias, float* hidden);
    void (*gather_f64)(const int32_t* indices, const double* values, int64_t count,
                       const double* vectors, int64_t dim, const double* bias, double* hidden);
    // The noise of a sample, added to its hidden activations [noise.dim]. factors:
    // [noise_room(noise.rank)], scratch.
    void (*add_noise_f32)(const Noise& noise, Key key, uint64_t index, float* factors,
                          float* hidden);
    void (*add_noise_f64)(const Noise& noise, Key key, uint64_t index, float* factors,
                          double* hidden);
    // out[i] = vectors[indices[i]] . inputs[rows[i]], in sixteen partial sums of every sixteenth
    // term, added up in the same order by every variant. indices, rows, out: [count]; without rows
    // all are of the first of the inputs, which are rows [dim] too.
    void (*dot_f32)(const int32_t* indices, const int32_t* rows, int64_t count,
                    const float* vectors, const float* inputs, int64_t dim, float* out);
    // The places in [0, n) where row * scale, or with `magnitude` its absolute value, exceeds
    // bounds + bound, NaN among them, ascending; returns how many. row, scale, bounds: [n]; bounds
    // are null where scale is not, or with `magnitude`.
    int64_t (*find_large_f32)(const float* row, const float* scale, const float* bounds,
                              float bound, bool magnitude, int64_t n, int32_t* places);
    // correlations -= value * row, and the place of the largest of them, the first of equal ones;
    // -1 where none is above 0. correlations, row: [n].
    int64_t (*subtract_and_find)(float* correlations, float value, const float* row, int64_t n);
    const Coder* coder;  // null where floats are as fast
};

// Variants that this machine can run, the fastest last.
const std::vector<const Kernels*>& available_kernels();
const Kernels& kernels();
void choose_kernels(const std::string& name);

}  // namespace synthkern
