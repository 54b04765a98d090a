// What crosses from the checks (compiled once) to the average-pooling kernels (compiled once per instruction set).
#pragma once

#include <cstdint>

#include "common/table.h"

namespace switchgrad {

// How windows lie along one axis. Window p has the cells start[p] + c * dilation for c = 0 .. cells[p] - 1, of which
// those from first[p] to last[p] - 1 lie in the input. The numbers belong to the checks and outlive the kernel.
struct Bins {
  int64_t size = 1;
  int64_t places = 1;
  int64_t stride = 1;  // 0: the windows start where they like (adaptive pooling)
  int64_t dilation = 1;
  int64_t kernel = 1;  // cells of the widest window
  int64_t most = 1;    // windows that share one cell
  const int64_t* start = nullptr;
  const int64_t* cells = nullptr;
  const int64_t* first = nullptr;
  const int64_t* last = nullptr;
  const double* factor = nullptr;  // this axis' part of what a window's sum is divided by (or multiplied with)
  // Of each input cell: the windows that reach over it, cover_begin .. cover_end - 1; dilation may hop over the cell.
  const int64_t* cover_begin = nullptr;
  const int64_t* cover_end = nullptr;

  bool holds(int64_t place, int64_t at) const { return dilation == 1 || (at - start[place]) % dilation == 0; }
};

// Averages of the windows of one input, or the adjoint: each pooled number shared out to the cells of its window.
// What is written is compact in the kernel's layout; what is read has any strides but 1 along its innermost axis when
// pooling, and is compact when spreading, where a planar job counts every plane as an image of one channel. Strides in
// elements: batch, channel, d, h, w.
struct AverageJob {
  Bins bins[3];
  int64_t batch = 1;
  int64_t channels = 1;
  bool multiply = false;  // the factors are powers of two and turned upside down
  int64_t stride[5] = {};
  const void* from = nullptr;
  void* to = nullptr;
  bool past_caches = false;  // the averages are too many for the caches and may be written past them
};

// Kernels write items begin .. end - 1: rows (planar) or pixels (channels last) of the result. Any split gives the
// same bits: a window's cells are added along its columns first and then along its rows, columns s and s + 16 of wide
// windows before all others, whatever the layout and the instruction set. A window that is the whole map is one row.
using AverageKernel = void (*)(const AverageJob&, int64_t begin, int64_t end);

struct AveragePoolTable {
  AverageKernel pool_planar[float_count];
  AverageKernel pool_channels_last[float_count];
  AverageKernel spread_planar[float_count];
  AverageKernel spread_channels_last[float_count];
};

}  // namespace switchgrad
