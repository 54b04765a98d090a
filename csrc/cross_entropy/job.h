// Softmax cross entropy: what crosses from the checks to the kernels.
#pragma once

#include "common/table.h"

namespace switchgrad {

struct CrossEntropyJob {
  int64_t rows = 0;
  int64_t classes = 1;
  const void* input = nullptr;      // contiguous
  const int64_t* target = nullptr;  // in range, or `ignore`
  const double* weight = nullptr;   // of each class; null: 1
  double total_weight = 0;          // of all classes
  int64_t ignore = -100;
  double smoothing = 0;
  double divisor = 1;        // of the gradient
  double* losses = nullptr;  // of each row
  void* grad = nullptr;      // null: nobody needs it
};

using CrossEntropyKernel = void (*)(const CrossEntropyJob&, int64_t begin, int64_t end);  // rows

struct CrossEntropyTable {
  CrossEntropyKernel rows[float_count];
};

}  // namespace switchgrad
