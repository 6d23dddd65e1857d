// A compiled world as the sampler reads it.
#pragma once

#include <cstdint>

#include "manifolds.hpp"

namespace synthkern {

// A node of a forest, packed by synthkern/plan/forest.py: a quarter of a cache line, where siblings
// are neighbours.
struct Node {
    int32_t feature, child_begin, num_children;
    int32_t group_and_scaled;  // 2 * group + scaled, group -1 outside exclusive groups

    int32_t child_end() const { return child_begin + num_children; }
    int32_t group() const { return group_and_scaled >> 1; }
    bool scaled() const { return group_and_scaled & 1; }
};

// A forest of K nodes.
struct Forest {
    int64_t num_nodes = 0, num_roots = 0, num_features = 0;
    const Node* node = nullptr;        // [K]
    const int32_t* parent = nullptr;   // [K], -1 at a root
    const int32_t* node_of = nullptr;  // [num_features], -1 outside the forest
    bool roots_grouped = false;        // some root is in an exclusive group
};

constexpr int kBlock = 16;       // features that share a coarse block
constexpr int kNibbleUnit = 47;  // of the screen's bound on a normal: 2.66 sigma is 125 units

// A conservative first look at the features that nothing gates, sixteen at a time: integers only,
// so that every instruction set keeps the same survivors. See build_screen in screen.cpp. Blocks
// are padded to a multiple of sixteen with empty ones.
struct Screen {
    int64_t num_blocks = 0;
    const uint32_t* block = nullptr;     // [num_blocks] which sixteen features
    const uint16_t* mask = nullptr;      // [num_blocks] which of them are looked at
    const uint8_t* last_byte = nullptr;  // [num_blocks, 16] independent: largest byte that may fire
    int quads = 0;                       // copula: factors, four at a time
    // [num_blocks, quads, 16, 4] copula: 64 + loading * a, of the features 0 ... 3, 8 ... 11,
    // 4 ... 7, 12 ... 15 of a block, which sums of neighbours put in order.
    const uint8_t* loading = nullptr;
    const int16_t* threshold = nullptr;  // [num_blocks, 16] copula: in units of 1 / (a * b)
    const int16_t* noise = nullptr;      // [num_blocks, 16] copula: per nibble unit
    float loading_units = 0;             // a
    float factor_units = 0;              // b
    float loading_norm = 0;              // largest norm of a row, and of a quantised row
    float loading_error = 0;             // largest norm of a row's quantisation error
    float slack = 0;                     // for the float32 rounding of the exact test
};

// What the exact test of a feature reads, in one cache line, packed by synthkern/plan/plan.py: bit
// patterns of floats, or words.
enum Column {
    kThreshold = 0,  // copula: what the normal must exceed
    kNoise = 1,      // copula: the noise's scale
    kFireByte = 0,   // independent: the byte and the word of the 40 bits that
    kFireWord = 1,   // a feature's own must be below
    kMean = 2,
    kStd = 3
};

// How firing magnitudes follow from normals, where they are not independent normals themselves.
enum LawFlag {
    kOtherLaw = 1,  // any of the below, or a normal one with normals that have a part in common
    kExponentialLaw = 2,  // the normals become exponential variables
    kLogarithmicLaw = 4,  // what is computed is a logarithm
    kSharedNormal = 8     // the normals of a sample have a part in common
};

struct Magnitudes {
    int flags = 0;                          // of LawFlag
    const float (*parameter)[2] = nullptr;  // [N] location and scale
    float shared = 0, own = 1;              // factors of a sample's normal and of a feature's own

    bool has(LawFlag flag) const { return (flags & flag) != 0; }
};

// A geometric distribution: a word becomes `least` plus the number of `size` thresholds from
// `begin` on, which descend, that are at least the word.
struct HoldingLaw {
    int32_t begin, size, least;
    float per_logarithm;  // 1 / log2 of its persistence, 0 without thresholds
};

// How long words are held along sequences: see synthkern/plan/sequence.py.
struct Sequences {
    uint32_t length = 0;                  // 0: every sample is by itself
    const HoldingLaw* law = nullptr;      // [M]
    const uint32_t* threshold = nullptr;  // [K]
    const int32_t* law_of = nullptr;      // [N] and two blocks more
    int32_t factor_law = 0;
};

struct Plan {
    int64_t num_features = 0;
    int64_t rank = 0, padded_rank = 0;  // 0: independent firing
    bool triangular = false;
    const uint32_t (*row)[4] = nullptr;  // [N], by Column
    const float* factor = nullptr;       // [N, padded_rank]
    const float* mean = nullptr;         // [N]
    Magnitudes magnitudes;
    Screen screen;
    Forest forest;                  // the first one: walked while sampling
    const Forest* later = nullptr;  // the others
    int num_later = 0;
    Manifolds manifolds;
    Sequences sequence;

    bool copula() const { return rank > 0; }
    bool sequences() const { return sequence.length > 0; }
};

}  // namespace synthkern
