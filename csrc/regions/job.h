// Pooling over boxes, and which boxes stay: what crosses from the checks to the kernels.
#pragma once

#include "common/table.h"

namespace switchgrad {

// Channels that are worked on side by side, whatever the instruction set: a block. A map is laid out so, [cell][lane],
// once for a block, and all boxes of its picture are done on it in their order.
constexpr int64_t region_lanes = 16;

// Along one axis, what each bin of each box adds up: cells in rising order, each with its weight (float or double).
struct BinWeights {
  const int64_t* begin = nullptr;  // of box k's bin p: entries begin[k places + p] .. begin[k places + p + 1] - 1
  const int32_t* cell = nullptr;
  const void* weight = nullptr;
};

// Along one axis, the cells of each bin of each box: first[k places + p] .. last[k places + p] - 1.
struct BinBounds {
  const int32_t* first = nullptr;
  const int32_t* last = nullptr;
};

// The boxes of picture n are box[first_box[n]] .. box[first_box[n + 1] - 1], in rising order. Strides in elements.
struct RegionJob {
  int64_t batch = 0, channels = 0, height = 0, width = 0;  // channels of the result
  int64_t places[2] = {};
  bool sensitive = false;  // bin (p, q) of channel c has the map of channel (c P + p) Q + q
  const int64_t* first_box = nullptr;
  const int64_t* box = nullptr;
  BinWeights weights[2];  // rows, columns
  BinBounds bounds[2];
  void* maps = nullptr;
  int64_t map_stride[4] = {};  // picture, channel, row, column
  void* pooled = nullptr;
  int64_t pooled_stride[4] = {};  // box, channel, p, q
  int32_t* winners = nullptr;     // beside pooled: flat places in the map, -1 for none

  int64_t blocks() const { return (channels + region_lanes - 1) / region_lanes; }
  int64_t bins() const { return places[0] * places[1]; }
};

// Sums, their adjoint and maxima do items begin .. end - 1 of batch x blocks (x bins, where those have channels of
// their own); route and gather do maps of batch x channels. Each item is one thread's, so no split changes a bit.
using RegionKernel = void (*)(const RegionJob&, int64_t begin, int64_t end);

// Boxes by falling score: corners and areas as float or double, classes or null.
struct SuppressionJob {
  int64_t count = 0;
  const void* corner[4] = {};  // x1, y1, x2, y2
  const void* area = nullptr;
  const int64_t* classes = nullptr;
  double threshold = 0;
  uint8_t* gone = nullptr;
};

// Marks those of boxes begin .. end - 1 that overlap box `by` by more than the threshold.
using SuppressionKernel = void (*)(const SuppressionJob&, int64_t by, int64_t begin, int64_t end);

struct RegionTable {
  RegionKernel sums[float_count];
  RegionKernel spread[float_count];
  RegionKernel maxima[float_count];
  RegionKernel route[float_count];
  RegionKernel gather[float_count];
  SuppressionKernel suppress_double, suppress_float;
};

}  // namespace switchgrad
