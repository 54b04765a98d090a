// Batch normalisation with a ReLU behind it, and max pooling behind that: what crosses from the checks to the kernels.
#pragma once

#include "common/table.h"

namespace switchgrad {

// How a tensor is cut into pieces that stay in the cache while they are worked on: several whole volumes (planes, or
// images where channels are last), or a band of rows of one volume. It depends on shapes alone, never on threads.
struct Split {
  int64_t volumes = 0, rows = 0;
  int64_t volumes_a_piece = 1, rows_a_piece = 1, bands = 1;

  struct Piece {
    int64_t volume, volume_end, row, row_end, band;
    int64_t volumes() const { return volume_end - volume; }
    int64_t rows() const { return row_end - row; }
  };

  Split(int64_t volumes_, int64_t rows_, int64_t elements_a_row, int64_t channels_side_by_side)
      : volumes(volumes_), rows(rows_), rows_a_piece(rows_) {
    // Every piece gives sums for each channel that it holds side by side: they should stay few beside its elements.
    const int64_t least = 16384, most_sums = 64 * channels_side_by_side;
    const int64_t target = least > most_sums ? least : most_sums;
    const int64_t row_elements = elements_a_row > 0 ? elements_a_row : 1, volume = rows * row_elements;
    if (volume > target) {
      rows_a_piece = target / row_elements > 0 ? target / row_elements : 1;
      bands = (rows + rows_a_piece - 1) / rows_a_piece;
    } else if (volume > 0) {
      volumes_a_piece = target / volume;
    }
  }
  int64_t count() const { return (volumes + volumes_a_piece - 1) / volumes_a_piece * bands; }
  Piece at(int64_t i) const {
    const int64_t volume = i / bands * volumes_a_piece, band = i % bands, row = band * rows_a_piece;
    return {volume, volume + volumes_a_piece < volumes ? volume + volumes_a_piece : volumes, row,
            row + rows_a_piece < rows ? row + rows_a_piece : rows, band};
  }
};

// All tensors are compact, in one layout. Numbers of a channel are doubles, `channels` of each.
struct NormJob {
  Window window;  // without pooling: as many rows of one cell as a plane has cells
  int64_t batch = 1;
  int64_t channels = 1;
  bool channels_last = false;
  const void* input = nullptr;
  const void* grad = nullptr;     // of the output
  const void* codes = nullptr;    // backward of pooling
  void* output = nullptr;         // activations, pooled values, or the input's gradient
  void* output_codes = nullptr;   // forward of pooling; null: nobody needs them
  const double* mean = nullptr;   // also the shift about which statistics are taken
  const double* scale = nullptr;  // weight / sqrt(var + eps)
  const double* bias = nullptr;
  const double* slope = nullptr;  // dx = scale * dz + slope * (x - mean) + offset
  const double* offset = nullptr;
  double* partial = nullptr;  // two sums for each channel of each piece
  PoolKernel pool = nullptr;  // rectifies
  RouteKernel route = nullptr;

  int64_t width() const { return window.axis[2].size; }
  int64_t depth() const { return channels_last ? channels : 1; }  // elements a cell
  int64_t row() const { return width() * depth(); }               // elements
  int64_t volumes() const { return channels_last ? batch : batch * channels; }
  Split split() const { return Split(volumes(), window.axis[1].size, row(), depth()); }
  Split split_places() const { return Split(volumes(), window.axis[1].places, row() * window.axis[1].stride, depth()); }
};

// Kernels do pieces begin .. end - 1 of the tensor's split (pool: of its places).
using NormKernel = void (*)(const NormJob&, int64_t begin, int64_t end);

struct BatchNormTable {
  NormKernel first[float_count];       // partial[c] = the channel's first number, for channels begin .. end - 1
  NormKernel statistics[float_count];  // partial: sums of x - mean and of its square
  NormKernel apply[float_count];
  NormKernel pool[float_count];
  NormKernel sums[float_count];  // partial: sums of dz and of dz * (x - mean)
  NormKernel pooled_sums[float_count];
  NormKernel gradient[float_count];
  NormKernel pooled_gradient[float_count];
};

}  // namespace switchgrad
