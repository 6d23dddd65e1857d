// What is compiled once per instruction set, and how the variant is chosen at run time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plan.hpp"
#include "stream.hpp"

namespace synthkern {

// Samples drawn together, so that a pass over the screen's tables serves several.
constexpr int kGroup = 4;

// The active features of one sample. Memory comes from functions compiled for the baseline.
struct Entries {
    int32_t* feature = nullptr;
    float* value = nullptr;
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
    // out[i] = vectors[indices[i]] . from, in sixteen partial sums of every sixteenth term, added
    // up in the same order by every variant. indices, out: [count]; from: [dim].
    void (*dot_f32)(const int32_t* indices, int64_t count, const float* vectors, int64_t dim,
                    const float* from, float* out);
    // The places in [0, n) where row * scale exceeds bounds + bound, NaN among them, ascending;
    // returns how many. row, scale, bounds: [n]; at most one of scale and bounds is not null.
    int64_t (*find_large_f32)(const float* row, const float* scale, const float* bounds,
                              float bound, int64_t n, int32_t* places);
    // correlations -= value * row, and the place of the largest of them, the first of equal ones;
    // -1 where none is above 0. correlations, row: [n].
    int64_t (*subtract_and_find)(float* correlations, float value, const float* row, int64_t n);
};

// Variants that this machine can run, the fastest last.
const std::vector<const Kernels*>& available_kernels();
const Kernels& kernels();
void choose_kernels(const std::string& name);

}  // namespace synthkern
