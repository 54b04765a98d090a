// Pooling whose winners are drawn: what crosses from the checks to the kernels.
#pragma once

#include "common/table.h"

namespace switchgrad {

// Values and codes are compact in the layout of the kernel, the input has stride 1 along its innermost axis.
struct RandomPoolJob {
  PoolJob pool;
  uint64_t seed = 0;
  uint32_t threshold = 0;  // a cell is dropped where its word is below (max-pooling dropout)
};

// Kernels do rows of windows begin .. end - 1: of each map (planar), or of each picture (channels last).
using RandomPoolKernel = void (*)(const RandomPoolJob&, int64_t begin, int64_t end);

struct RandomPoolTable {
  RandomPoolKernel stochastic_planar[float_count];
  RandomPoolKernel stochastic_channels_last[float_count];
  RandomPoolKernel dropout_planar[float_count];
  RandomPoolKernel dropout_channels_last[float_count];
};

}  // namespace switchgrad
