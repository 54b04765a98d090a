// What crosses from the checks (compiled once) to the kernels for windows at given places (compiled once per
// instruction set).
#pragma once

#include <cstdint>

#include "common/table.h"

namespace switchgrad {

// The windows along one axis: window p of map m has the cells begin[m * apart + p] up to end[m * apart + p], which lie
// in the input and are at least one and at most `kernel`. The lists belong to the checks and outlive the kernel.
struct PlacedAxis {
  int64_t size = 1;
  int64_t places = 1;
  int64_t kernel = 1;
  int64_t apart = 0;  // 0: all maps have the same windows
  const int64_t* begin = nullptr;
  const int64_t* end = nullptr;
};

// A code is the winner's row-major offset in a box of `kernel` cells along each axis, whatever the window's own size.
struct PlacedWindows {
  PlacedAxis axis[3];
  bool are_boxes = false;  // whether every window is known to have all cells of the box

  int64_t cells() const { return axis[0].kernel * axis[1].kernel * axis[2].kernel; }
  int64_t input_cells() const { return axis[0].size * axis[1].size * axis[2].size; }
  int64_t output_cells() const { return axis[0].places * axis[1].places * axis[2].places; }
};

// As PoolJob and RouteJob. Channels last, the windows of all maps are the same.
struct PlacedPoolJob {
  PlacedWindows windows;
  int64_t batch = 1;
  int64_t channels = 1;
  int64_t input_stride[5] = {};
  const void* input = nullptr;
  void* values = nullptr;
  void* codes = nullptr;
};
struct PlacedRouteJob {
  PlacedWindows windows;
  int64_t batch = 1;
  int64_t channels = 1;
  const void* pooled = nullptr;
  const void* codes = nullptr;
  void* routed = nullptr;
};

// Channels that one item of the channels-last route has.
constexpr int64_t placed_chunk = 64;

// Kernels do items begin .. end - 1: output rows (planar pool), output pixels (channels-last pool), planes (planar
// route), chunks of an image's channels (channels-last route). Any split gives the same bits.
using PlacedPoolKernel = void (*)(const PlacedPoolJob&, int64_t begin, int64_t end);
using PlacedRouteKernel = void (*)(const PlacedRouteJob&, int64_t begin, int64_t end);

struct PlacedPoolTable {
  PlacedPoolKernel pool_planar[dtype_count][code_count];
  PlacedPoolKernel pool_channels_last[dtype_count][code_count];
  PlacedRouteKernel route_planar[dtype_count][code_count];
  PlacedRouteKernel route_channels_last[dtype_count][code_count];
};

}  // namespace switchgrad
