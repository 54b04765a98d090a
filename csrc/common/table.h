// What crosses from the checks (compiled once) to the kernels (compiled once per instruction set).
#pragma once

#include <cstdint>

#include "window.h"

namespace switchgrad {

enum Dtype { F64, F32, F16, BF16, U8, I8, I16, I32, I64, dtype_count };
constexpr int float_count = U8;  // the floating-point types come first
enum CodeWidth { Code8, Code16, Code32, code_count };

// Bytes hold windows of up to 254 cells; 255 (all ones in any width) says that no cell won.
inline CodeWidth code_width(int64_t cells) { return cells <= 254 ? Code8 : cells <= 32767 ? Code16 : Code32; }

// Max pooling of one input. Values and codes are compact in the layout of the kernel (planar or channels last);
// the input may have any strides but 1 along its innermost axis. Strides in elements: batch, channel, d, h, w.
struct PoolJob {
  Window window;
  int64_t batch = 1;
  int64_t channels = 1;
  int64_t input_stride[5] = {};
  const void* input = nullptr;
  void* values = nullptr;
  void* codes = nullptr;  // null: nobody needs them
};

// The adjoint: each pooled cell's number goes to the input cell that its code names. All tensors are compact.
struct RouteJob {
  Window window;
  int64_t batch = 1;
  int64_t channels = 1;
  const void* pooled = nullptr;
  const void* codes = nullptr;
  void* routed = nullptr;
};

// Kernels do items begin .. end - 1: output rows (planar pool), output pixels (channels-last pool), input rows
// (planar route), input pixels (channels-last route), planes (planar scatter). Any split gives the same bits, and so do
// route and scatter.
using PoolKernel = void (*)(const PoolJob&, int64_t begin, int64_t end);
using RouteKernel = void (*)(const RouteJob&, int64_t begin, int64_t end);

struct MaxPoolTable {
  PoolKernel pool_planar[dtype_count][code_count];
  PoolKernel pool_channels_last[dtype_count][code_count];
  RouteKernel route_planar[dtype_count][code_count];
  RouteKernel route_channels_last[dtype_count][code_count];
  RouteKernel scatter_planar[dtype_count][code_count];
};

// Pooling of what a ReLU passes.
struct ReluMaxPoolTable {
  PoolKernel planar[float_count][code_count];
  PoolKernel channels_last[float_count][code_count];
};

}  // namespace switchgrad
