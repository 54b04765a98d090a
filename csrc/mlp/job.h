// Fully connected layers one behind the other, with a ReLU between two: what crosses from the checks to the kernels.
//
// Letters: M rows (the batch) go through layers, each from K inputs to N outputs by a weight N x K. The kernels are for
// layers whose weights stay in the caches: a group of rows goes through all layers at once, so that threads meet once
// on the way forward and twice on the way back. All tensors are compact.
#pragma once

#include "common/table.h"
#include "cpu/isa.h"

namespace switchgrad {

struct MlpLayer {
  int64_t inputs = 0;   // K
  int64_t outputs = 0;  // N
  const void* weight = nullptr;
  const void* bias = nullptr;  // null: none
};

struct MlpJob {
  int64_t rows = 0;  // M
  int64_t count = 0;
  const MlpLayer* layers = nullptr;
  const void* input = nullptr;
};

struct MlpForwardJob : MlpJob {
  int64_t vectors = 1;             // of rows that go through the layers beside each other
  void* const* outputs = nullptr;  // what each layer gives, behind its ReLU; null: nobody needs it
  void* room = nullptr;
};

// `grads` are those of each layer's outputs, before the ReLU: the last one is given, the others are found.
struct MlpBackwardJob : MlpJob {
  const void* const* hidden = nullptr;  // what each layer but the last gave, behind its ReLU
  void* const* grads = nullptr;
  int64_t first = 0;           // the first layer whose outputs' gradient is needed
  void* input_grad = nullptr;  // null: not wanted, here and below
  void* const* weight_grads = nullptr;
  void* const* bias_grads = nullptr;
};

// `items` are pieces that threads may do apart; any split of them, and any number of vectors, gives the same bits.
struct MlpKernels {
  int64_t most_vectors;
  int64_t (*vectors)(const MlpJob&);      // that the rows fill
  int64_t (*room)(const MlpForwardJob&);  // in elements
  int64_t (*forward_items)(const MlpForwardJob&);
  void (*forward)(const MlpForwardJob&, int64_t begin, int64_t end);
  int64_t (*row_items)(const MlpJob&);
  void (*row_gradients)(const MlpBackwardJob&, int64_t begin, int64_t end);
  int64_t (*weight_items)(const MlpJob&);
  void (*weight_gradients)(const MlpBackwardJob&, int64_t begin, int64_t end);
};

struct MlpTable {
  MlpKernels of_float, of_double;
};
SWITCHGRAD_TABLE(MlpTable, mlp_table)

}  // namespace switchgrad
