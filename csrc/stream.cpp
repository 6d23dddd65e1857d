#include "stream.hpp"

namespace synthkern {

alignas(16) const uint32_t kNormalTable[kNormalSegments][4] = {
#include "normal_table.inc"
};

alignas(16) const uint32_t kExponentialTable[kExponentialSegments][4] = {
#include "exponential_table.inc"
};

}  // namespace synthkern
