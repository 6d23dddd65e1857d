#include "stream.hpp"

namespace synthkern {

alignas(16) const uint32_t kNormalTable[kNormalSegments][4] = {
#include "normal_table.inc"
};

}  // namespace synthkern
