// Sums of windows under one small set of weights for every channel, and their adjoint: what crosses to the kernels.
#pragma once

#include "common/table.h"

namespace switchgrad {

// Along an axis, the windows look at padded cells 0 .. reach - 1, of which cell t is cell source[t] of the input, or
// nothing where that is -1. The padded cells of input cell h are back[first_back[h]] .. back[first_back[h + 1] - 1].
struct FilterAxis {
  Axis axis;
  int64_t reach = 1;
  const int32_t* source = nullptr;
  const int32_t* first_back = nullptr;
  const int32_t* back = nullptr;
};

// `maps` have any strides but 1 along the innermost axis of the kernel's layout (the adjoint writes them compact);
// `pooled` is compact. Weights and factors are in the precision to compute in.
struct FilterJob {
  FilterAxis axis[3];
  int64_t batch = 1, channels = 1;
  void* maps = nullptr;
  int64_t stride[5] = {};  // of the maps: picture, channel, depth, row, column
  void* pooled = nullptr;
  const void* weights = nullptr;
  const void *down = nullptr, *along = nullptr;  // where weights are products: of each row and of each column; or null
  const void* factors = nullptr;                 // each place's sum times its factor, 0 where that is 0; null: as it is

  int64_t size(int i) const { return axis[i].axis.size; }
  int64_t places(int i) const { return axis[i].axis.places; }
};

// Kernels do rows begin .. end - 1: of places (sums) or of the input (adjoint), of each map (planar) or picture.
using FilterKernel = void (*)(const FilterJob&, int64_t begin, int64_t end);

struct FilterTable {
  FilterKernel sums_planar[float_count];
  FilterKernel sums_channels_last[float_count];
  FilterKernel spread_planar[float_count];
  FilterKernel spread_channels_last[float_count];
};

}  // namespace switchgrad
