// Convolutions of 3 x 3 or 5 x 5 taps, one apart, by Winograd's algorithm: what crosses from the checks to the kernels.
//
// Letters: a tile is m x m outputs of one image, read from a patch of (m + r - 1) x (m + r - 1) inputs for r x r taps;
// f counts the patch's transformed numbers. C channels go in, K filters come out; pixels lie channel by channel.
#pragma once

#include "conv_pool/job.h"
#include "cpu/isa.h"

namespace switchgrad {

// Pixels of N x H x W, each with its channels side by side; strides in elements.
struct Pixels {
  const void* data = nullptr;
  int64_t rows = 0, columns = 0, channels = 0;
  int64_t stride[3] = {};  // image, row, column
};

// The taps of each filter and channel side by side, row by row; or turned around, from the first one backwards.
struct TapBank {
  const void* first = nullptr;
  int64_t filter_step = 0, channel_step = 0;
  bool turned = false;
};

struct WinogradJob {
  int64_t batch = 0, filters = 0;
  Pixels input;
  int64_t pad[2] = {};     // zeros above and left of the input
  int64_t places[2] = {};  // rows and columns of the output
  int64_t tiles[2] = {};   // of one image

  int64_t tiles_of_image() const { return tiles[0] * tiles[1]; }
  int64_t all_tiles() const { return batch * tiles_of_image(); }
};

struct WinogradForwardJob : WinogradJob {
  const void* packed = nullptr;  // the transformed filters
  const void* bias = nullptr;    // null: none
  bool relu = false;
  void* output = nullptr;  // N x places x K
};

// The weights' gradient goes by blocks of tiles, in each first the tiles (transform), then parts of the sums (add); at
// the end filters of the result (finish). Any split of any of them gives the same bits.
struct WinogradWeightJob : WinogradJob {
  Pixels grad;
  void* input_terms = nullptr;  // of the block: f x tiles x C
  void* grad_terms = nullptr;   // of the block: f x tiles x K
  void* sums = nullptr;         // f x C x K
  void* weight_grad = nullptr;
  int64_t weight_stride[4] = {};
};

struct WinogradKernels {
  int64_t (*packed_size)(const WinogradJob&);
  int64_t (*pack_items)(const WinogradJob&);  // pieces that may be packed apart
  void (*pack)(const WinogradJob&, const TapBank&, void* packed, int64_t begin, int64_t end);
  // Tiles begin .. end - 1. False: a number was not finite (or left the range on the way), the result is not to be
  // used.
  bool (*forward)(const WinogradForwardJob&, int64_t begin, int64_t end);
  // The same with max pooling over windows of 2 x 2 outputs, two apart; the job's own ReLU and output are not used.
  bool (*pool)(const WinogradForwardJob&, const ConvPoolForwardJob&, int64_t begin, int64_t end);
  int64_t (*block_of_tiles)(const WinogradJob&);
  int64_t (*term_sizes)(const WinogradJob&, int64_t (&sizes)[3]);  // of input_terms, grad_terms, sums; returns parts
  void (*transform)(const WinogradWeightJob&, int64_t block, int64_t begin, int64_t end);
  void (*add)(const WinogradWeightJob&, int64_t block, int64_t begin, int64_t end);
  bool (*finish)(const WinogradWeightJob&, int64_t begin, int64_t end);
};

// By taps (3 or 5), then by outputs of a tile (2 or 4).
struct WinogradTable {
  WinogradKernels of_float[2][2], of_double[2][2];
};
SWITCHGRAD_TABLE(WinogradTable, winograd_table)

}  // namespace switchgrad
