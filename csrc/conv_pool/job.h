// Convolution, bias, ReLU and max pooling as one operator: what crosses from the checks to the kernels.
//
// Letters: N images, C input channels, K filters of R x S taps, P x Q pooled cells. A run is the S * C neighbouring
// numbers that one row of taps reads from a row of pixels, channel by channel.
#pragma once

#include "common/table.h"
#include "cpu/isa.h"

namespace switchgrad {

// Where the weights of filter k, tap (r, s), channel c are.
struct FilterBank {
  const void* weight = nullptr;
  int64_t stride[4] = {};  // k, c, r, s
};

struct ConvPoolJob {
  int64_t batch = 1;
  int64_t channels = 1;
  int64_t filters = 1;
  Axis conv[2];                  // rows and columns of the input
  Axis pool[2];                  // rows and columns of the convolution's output
  int64_t input_stride[4] = {};  // n, c, h, w
  const void* input = nullptr;
  const void* weight = nullptr;  // as the kernel packed it
  bool relu = true;

  int64_t taps() const { return conv[0].kernel * conv[1].kernel; }
  int64_t run() const { return conv[1].kernel * channels; }
};

// values and codes are N x P x Q x K.
struct ConvPoolForwardJob : ConvPoolJob {
  const void* bias = nullptr;  // packed with the weight
  void* values = nullptr;
  uint8_t* codes = nullptr;
};

// What came back for each pooled cell, N x P x Q x K, goes to its winner and from there to the weights or the input.
struct ConvPoolBackwardJob : ConvPoolJob {
  const void* grad = nullptr;
  const uint8_t* codes = nullptr;
  void* weight_grad = nullptr;  // K x C x R x S, with any strides
  int64_t weight_stride[4] = {};
  void* bias_grad = nullptr;
  void* weight_sums = nullptr;  // of each part of the batch, of each filter
  void* input_grad = nullptr;
  int64_t grad_stride[4] = {};  // of input_grad: n, c, h, w
};

// The forward does pooled rows begin .. end - 1 of N * P; the weights' gradient does the filters of each part of the
// batch (see weight_parts), whose sums it then adds up filter by filter; the input's does blocks of rows (see
// input_blocks). Any split gives the same bits.
struct ConvPoolKernels {
  int64_t (*packed_size)(const ConvPoolJob&);  // numbers that pack writes, the bias behind the weights
  void (*pack)(const ConvPoolJob&, const FilterBank&, const void* bias, void* packed);
  void (*forward)(const ConvPoolForwardJob&, int64_t begin, int64_t end);
  int64_t (*packed_filters_size)(const ConvPoolJob&);
  void (*pack_filters)(const ConvPoolJob&, const FilterBank&, void* packed);
  int64_t (*weight_parts)(const ConvPoolJob&);
  int64_t (*weight_sums_size)(const ConvPoolJob&);
  void (*weight_gradient)(const ConvPoolBackwardJob&, int64_t begin, int64_t end);
  void (*finish_weights)(const ConvPoolBackwardJob&, int64_t begin, int64_t end);
  int64_t (*input_blocks)(const ConvPoolJob&);
  void (*input_gradient)(const ConvPoolBackwardJob&, int64_t begin, int64_t end);
};

struct ConvPoolTable {
  ConvPoolKernels of_float, of_double;
};
SWITCHGRAD_TABLE(ConvPoolTable, conv_pool_table)

}  // namespace switchgrad
