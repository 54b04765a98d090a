// Dropout, with a bias and a ReLU in front of it or not: what crosses from the checks to the kernels.
#pragma once

#include "common/table.h"

namespace switchgrad {

struct DropoutJob {
  int64_t count = 0;     // elements, contiguous
  int64_t channels = 1;  // of the bias; a channel has `inner` elements in a row
  int64_t inner = 1;
  const void* input = nullptr;
  void* output = nullptr;
  const double* bias = nullptr;  // null: none
  uint64_t seed = 0;
  uint32_t threshold = 0;  // an element is dropped where its random word is below
  double scale = 1;        // of what is kept
};

// Elements drawn at a time; kernels do these chunks begin .. end - 1.
constexpr int64_t dropout_chunk = 2048;
using DropoutKernel = void (*)(const DropoutJob&, int64_t begin, int64_t end);

struct DropoutTable {
  DropoutKernel drop[float_count];
  DropoutKernel rectify_and_drop[float_count];
};

}  // namespace switchgrad
