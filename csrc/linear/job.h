// Fully connected layers, y = x W^T + b with a ReLU or without: what crosses from the checks to the kernels.
//
// Letters: M rows (the batch) of K inputs give M rows of N outputs; the weight is N x K. The kernels are for batches so
// thin that reading the weight is most of the work: each of them goes once through the weight as it lies in memory, and
// everything of the batch's size is packed beforehand.
#pragma once

#include "common/table.h"
#include "cpu/isa.h"

namespace switchgrad {

// Numbers by row and column, with any steps; in elements.
struct Matrix {
  const void* data = nullptr;
  int64_t row_step = 0, column_step = 0;
};

struct LinearJob {
  int64_t rows = 0;     // M
  int64_t inputs = 0;   // K
  int64_t outputs = 0;  // N
};

struct LinearForwardJob : LinearJob {
  Matrix input;
  const void* weight = nullptr;  // compact
  const void* bias = nullptr;    // null: none
  bool relu = false;
  void* packed = nullptr;  // the input, turned over
  void* output = nullptr;  // compact
};

// The gradient is packed once, with what a ReLU held back left out, and serves both of the others.
struct LinearGradientJob : LinearJob {
  Matrix grad;
  Matrix output;  // of the ReLU; null: there was none
  void* bias_grad = nullptr;
  void* packed_grad = nullptr;
};

struct LinearInputGradientJob : LinearJob {
  const void* packed_grad = nullptr;
  const void* weight = nullptr;  // compact
  void* sums = nullptr;          // room to add in
  void* input_grad = nullptr;    // compact
};

struct LinearWeightGradientJob : LinearJob {
  const void* packed_grad = nullptr;
  Matrix input;
  void* packed_input = nullptr;
  void* weight_grad = nullptr;  // compact
};

// `size` counts elements of memory that a step needs, `items` pieces that threads may do apart; any split of them gives
// the same bits.
struct LinearKernels {
  int64_t (*packed_input_size)(const LinearJob&);
  int64_t (*pack_input_items)(const LinearJob&);
  void (*pack_input)(const LinearForwardJob&, int64_t begin, int64_t end);
  int64_t (*forward_items)(const LinearJob&);
  void (*forward)(const LinearForwardJob&, int64_t begin, int64_t end);

  int64_t (*packed_grad_size)(const LinearJob&);
  int64_t (*pack_grad_items)(const LinearJob&);
  void (*pack_grad)(const LinearGradientJob&, int64_t begin, int64_t end);

  int64_t (*tiled_input_size)(const LinearJob&);  // of the input, or of its gradient's sums, in tiles of columns
  int64_t (*tiled_input_items)(const LinearJob&);
  void (*input_gradient)(const LinearInputGradientJob&, int64_t begin, int64_t end);
  void (*tile_input)(const LinearWeightGradientJob&, int64_t begin, int64_t end);
  int64_t (*weight_gradient_items)(const LinearJob&);
  void (*weight_gradient)(const LinearWeightGradientJob&, int64_t begin, int64_t end);
};

struct LinearTable {
  LinearKernels of_float, of_double;
};
SWITCHGRAD_TABLE(LinearTable, linear_table)

}  // namespace switchgrad
