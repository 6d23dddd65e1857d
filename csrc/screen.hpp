// Building the tables of a plan's screen.
#pragma once

#include <cstdint>
#include <vector>

#include "plan.hpp"

namespace synthkern {

struct ScreenTables {
    std::vector<uint32_t> block;
    std::vector<uint16_t> mask;
    std::vector<uint8_t> last_byte, loading;
    std::vector<int16_t> threshold, noise;
};

// Fills plan.screen, whose arrays live in `tables`.
void build_screen(Plan& plan, ScreenTables& tables);

}  // namespace synthkern
