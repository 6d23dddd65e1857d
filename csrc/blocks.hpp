// Memory of large arrays that come and go with every step, such as gradients.
#pragma once

#include <cstddef>

namespace synthkern {

// Blocks of at least this many bytes are kept for the next array of their size.
constexpr size_t kKeptFrom = size_t{1} << 20;

void* take_block(size_t bytes);
void give_block(void* block, size_t bytes);

}  // namespace synthkern
