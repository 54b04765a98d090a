// The filters of a convolution as they lie in memory.
#pragma once

#include <cstdint>

namespace switchgrad {

// Where the weights of filter k, tap (r, s), channel c are.
struct FilterBank {
  const void* weight = nullptr;
  int64_t stride[4] = {};  // k, c, r, s
};

}  // namespace switchgrad
