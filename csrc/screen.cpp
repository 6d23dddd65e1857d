#include "screen.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace synthkern {

namespace {

// Loadings are bytes in [-63, 63], stored with 64 added: then a pair of products with bytes in
// [-127, 127] fits the saturating 16 bits of the instruction that multiplies them.
constexpr float kLoadingRange = 63;
// A factor beyond 4.2 sigma (one in 37,000) is clipped, which the bound counts as its error.
constexpr float kFactorUnits = 127 / 4.2f;
// Thresholds of 4 sigma still fit 16 bits at this many units.
constexpr float kMostUnits = 8000;

float number(const Plan& plan, int64_t j, Column column) {
    float x;
    std::memcpy(&x, &plan.row[j][column], sizeof(x));
    return x;
}

bool can_fire(const Plan& plan, int64_t j) {
    if (!plan.copula()) return plan.row[j][kFireByte] != 0 || plan.row[j][kFireWord] != 0;
    const float threshold = number(plan, j, kThreshold);
    return !(std::isinf(threshold) && threshold > 0);
}

// Largest coarse byte with which an independent feature that can fire still may.
uint8_t last_byte(const Plan& plan, int64_t j) {
    const uint32_t byte = plan.row[j][kFireByte];
    return uint8_t(plan.row[j][kFireWord] > 0 ? byte : byte - 1);
}

bool is_screened(const Plan& plan, int64_t j) {
    const Forest& forest = plan.forest;
    const int32_t node = forest.num_nodes > 0 ? forest.node_of[j] : -1;
    return (node < 0 || forest.parent[node] < 0) && can_fire(plan, j);
}

float norm(const float* row, int64_t size) {
    double square = 0;
    for (int64_t k = 0; k < size; ++k) square += double(row[k]) * row[k];
    return float(std::sqrt(square) * (1 + 1e-6));
}

int16_t clamp16(double x) { return int16_t(std::min(32766.0, std::max(-32768.0, x))); }

void list_blocks(const Plan& plan, ScreenTables& tables) {
    for (int64_t first = 0; first < plan.num_features; first += kBlock) {
        uint16_t mask = 0;
        const int64_t end = std::min<int64_t>(plan.num_features, first + kBlock);
        for (int64_t j = first; j < end; ++j)
            mask |= uint16_t(uint16_t{is_screened(plan, j)} << (j - first));
        if (mask == 0) continue;
        tables.block.push_back(uint32_t(first / kBlock));
        tables.mask.push_back(mask);
    }
    // The kernels take up to sixteen blocks at a time; the padding looks at nothing.
    tables.block.resize((tables.block.size() + 15) / 16 * 16, 0);
    tables.mask.resize(tables.block.size(), 0);
}

template <class Visit>
void each_screened(const ScreenTables& tables, Visit visit) {
    for (size_t b = 0; b < tables.mask.size(); ++b)
        for (int lane = 0; lane < kBlock; ++lane)
            if (tables.mask[b] >> lane & 1)
                visit(int64_t{tables.block[b]} * kBlock + lane, b, lane);
}

void choose_units(const Plan& plan, const ScreenTables& tables, Screen& screen) {
    float largest = 0, largest_norm = 0, largest_noise = 1;
    each_screened(tables, [&](int64_t j, size_t, int) {
        const float* row = plan.factor + j * plan.padded_rank;
        for (int64_t k = 0; k < plan.rank; ++k) largest = std::max(largest, std::fabs(row[k]));
        largest_norm = std::max(largest_norm, norm(row, plan.rank));
        largest_noise = std::max(largest_noise, number(plan, j, kNoise));
    });
    screen.factor_units = kFactorUnits;
    // The product of a row and the factors, at 4 sigma of the factors' norm, must fit 16 bits.
    const float spread = largest_norm * (std::sqrt(float(plan.rank)) + 4);
    const float most = std::min(kMostUnits / largest_noise, 30000 / std::max(spread, 1e-6f));
    screen.loading_units =
        std::min(kLoadingRange / std::max(largest, 1e-6f), most / screen.factor_units);
}

void quantise_rows(const Plan& plan, ScreenTables& tables, Screen& screen) {
    const float a = screen.loading_units;
    const double units = double(a) * screen.factor_units;
    const size_t blocks = tables.mask.size();
    screen.quads = int((plan.rank + 3) / 4);
    tables.loading.assign(blocks * size_t(screen.quads) * 4 * kBlock, 64);
    tables.threshold.assign(blocks * kBlock, 32766);
    tables.noise.assign(blocks * kBlock, 0);
    constexpr int place_of[4] = {0, 2, 1, 3};
    std::vector<float> kept(size_t(plan.rank)), error(size_t(plan.rank));
    each_screened(tables, [&](int64_t j, size_t b, int lane) {
        const float* row = plan.factor + j * plan.padded_rank;
        for (int64_t k = 0; k < plan.rank; ++k) {
            const int q = int(std::lround(row[k] * a));
            kept[size_t(k)] = float(q) / a;
            error[size_t(k)] = row[k] - kept[size_t(k)];
            const size_t quad = b * size_t(screen.quads) + size_t(k / 4);
            const size_t at = quad * kBlock + size_t(place_of[lane / 4] * 4 + lane % 4);
            tables.loading[at * 4 + size_t(k % 4)] = uint8_t(64 + q);
        }
        screen.loading_norm =
            std::max({screen.loading_norm, norm(row, plan.rank), norm(kept.data(), plan.rank)});
        screen.loading_error = std::max(screen.loading_error, norm(error.data(), plan.rank));
        const size_t place = b * kBlock + size_t(lane);
        tables.threshold[place] = clamp16(std::floor(units * number(plan, j, kThreshold)));
        tables.noise[place] = clamp16(std::ceil(units * number(plan, j, kNoise) / kNibbleUnit));
    });
    screen.slack = 8;  // the noise term reaches 6.4, its product's rounding included
}

}  // namespace

void build_screen(Plan& plan, ScreenTables& tables) {
    list_blocks(plan, tables);
    Screen& screen = plan.screen;
    screen.num_blocks = int64_t(tables.mask.size());
    if (plan.copula() && !plan.triangular) {
        choose_units(plan, tables, screen);
        quantise_rows(plan, tables, screen);
    } else if (!plan.copula()) {
        tables.last_byte.assign(tables.mask.size() * kBlock, 0);
        each_screened(tables, [&](int64_t j, size_t b, int lane) {
            tables.last_byte[b * kBlock + size_t(lane)] = last_byte(plan, j);
        });
    }
    screen.block = tables.block.data();
    screen.mask = tables.mask.data();
    screen.last_byte = tables.last_byte.data();
    screen.loading = tables.loading.data();
    screen.threshold = tables.threshold.data();
    screen.noise = tables.noise.data();
}

}  // namespace synthkern
