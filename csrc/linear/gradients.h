// The gradients of a fully connected layer: of its input, dx = dy W, and of its weight, dw = dy^T x.
#pragma once

#include "common/past_caches.h"
#include "linear/panels.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// -- the input's: rows of the weight go by, and a tile of columns of each adds to all rows of the batch

constexpr int64_t outputs_of_block = 128;  // rows of the weight that go by before sums are put away

// The sums of T rows of the batch over `count` rows of the weight; `ahead` columns on lies what is read next.
template <class E, int T>
__attribute__((noinline)) void add_weight_rows(const E* grad, int64_t panel_step, const E* weight, int64_t weight_step,
                                               int64_t ahead, int64_t count, E* sums) {
  ProductSums<E, T, vectors_of_tile> found;
  found.clear();
  for (int64_t n = 0; n < count; n += panel_width, grad += panel_step) {
    const int64_t columns = count - n < panel_width ? count - n : panel_width;
    for (int64_t j = 0; j < columns; ++j, weight += weight_step) {
      for (int64_t line = 0; line < tile_width<E>; line += 64 / static_cast<int64_t>(sizeof(E)))
        __builtin_prefetch(weight + ahead + line, 0, 2);
      found.add(grad + j, panel_width, weight);
    }
  }
  found.add_to(sums, tile_width<E>);
}

// A tile's columns of `count` rows of the weight, whole: where the last tile ends within a vector it is copied.
template <class E>
struct WeightTile {
  const E* first = nullptr;
  int64_t step = 0;
  alignas(64) E room[outputs_of_block * tile_width<E>];

  void look(const LinearInputGradientJob& job, int64_t output, int64_t count, int64_t tile) {
    const int64_t columns = columns_of_tile<E>(job, tile);
    first = static_cast<const E*>(job.weight) + output * job.inputs + tile * tile_width<E>;
    step = job.inputs;
    if (columns == tile_width<E>) return;
    for (int64_t n = 0; n < count; ++n) copy_row(first + n * step, 1, columns, room + n * tile_width<E>, tile_width<E>);
    first = room;
    step = tile_width<E>;
  }
};

template <class E>
void finish_input_tile(const LinearInputGradientJob& job, const E* sums, int64_t tile) {
  const int64_t columns = columns_of_tile<E>(job, tile);
  E* to = static_cast<E*>(job.input_grad) + tile * tile_width<E>;
  for (int64_t row = 0; row < job.rows; ++row)
    std::memcpy(to + row * job.inputs, sums + row * tile_width<E>, static_cast<size_t>(columns) * sizeof(E));
}

template <class E>
void input_gradient(const LinearInputGradientJob& job, int64_t begin, int64_t end) {
  const int64_t groups = parts_of(job.rows, most_rows_of_tile), group = parts_of(job.rows, groups);
  WeightTile<E> weight;
  const int64_t tile_size = job.rows * tile_width<E>;
  E* sums = static_cast<E*>(job.sums);
  std::memset(sums + begin * tile_size, 0, static_cast<size_t>((end - begin) * tile_size) * sizeof(E));
  for (int64_t output = 0; output < job.outputs; output += outputs_of_block) {
    const int64_t left = job.outputs - output, count = left < outputs_of_block ? left : outputs_of_block;
    const E* grad = static_cast<const E*>(job.packed_grad) + output * job.rows;
    for (int64_t tile = begin; tile < end; ++tile) {
      weight.look(job, output, count, tile);
      for (int64_t row = 0; row < job.rows; row += group) {
        with_rows(job.rows - row < group ? job.rows - row : group, [&](auto T) {
          add_weight_rows<E, T>(grad + row * panel_width, job.rows * panel_width, weight.first, weight.step,
                                row == 0 ? tile_width<E> : 0, count, sums + tile * tile_size + row * tile_width<E>);
        });
      }
    }
  }
  for (int64_t tile = begin; tile < end; ++tile) finish_input_tile<E>(job, sums + tile * tile_size, tile);
}

// -- the weight's: each row is written once, piece by piece, from all rows of the batch

inline int64_t groups_of_outputs(const LinearJob& job) { return parts_of(job.outputs, most_rows_of_tile); }

// Rows are written whole; where there are so few that threads would share them badly, in pieces of a few tiles.
template <class E>
int64_t tiles_of_piece(const LinearJob& job) {
  constexpr int64_t many_groups = 4, few_tiles = 8;
  return groups_of_outputs(job) < many_groups ? few_tiles : tiled_input_items<E>(job);
}
template <class E>
int64_t pieces_of_row(const LinearJob& job) {
  return job.inputs > 0 ? parts_of(tiled_input_items<E>(job), tiles_of_piece<E>(job)) : 0;
}
template <class E>
int64_t weight_gradient_items(const LinearJob& job) {
  return groups_of_outputs(job) * pieces_of_row<E>(job);
}

// A gradient of this many bytes would push everything else out of the caches.
constexpr int64_t past_caches_from = int64_t{1} << 23;

// T rows of the weight's gradient, one tile of columns; `columns` of them are there.
template <class E, int T, bool Past>
__attribute__((noinline)) void weight_rows(const E* grad, const E* input, int64_t rows, E* to, int64_t step,
                                           int64_t columns) {
  constexpr int N = lanes_of<E>;
  ProductSums<E, T, vectors_of_tile> found;
  found.clear();
  for (int64_t m = 0; m < rows; ++m) found.add(grad + m * panel_width, 1, input + m * tile_width<E>);
  if constexpr (Past) {
    found.each([&](int t, int v, Vec<E, N> sum) { store_past_caches(to + t * step + v * N, sum); });
  } else if (columns == tile_width<E>) {
    found.write(to, step);
  } else {
    found.each([&](int t, int v, Vec<E, N> sum) {
      if (v * N < columns) store_first<N>(to + t * step + v * N, sum, columns - v * N);
    });
  }
}

// A piece of `rows` rows from `output` on.
template <class E>
void weight_piece(const LinearWeightGradientJob& job, int64_t output, int64_t rows, int64_t piece, bool past) {
  const E* grad =
      static_cast<const E*>(job.packed_grad) + output / panel_width * panel_width * job.rows + output % panel_width;
  E* to = static_cast<E*>(job.weight_grad) + output * job.inputs;
  const int64_t tiles = tiled_input_items<E>(job), count = tiles_of_piece<E>(job), end = (piece + 1) * count;
  with_rows(rows, [&](auto T) {
    for (int64_t tile = piece * count; tile < (end < tiles ? end : tiles); ++tile) {
      const int64_t columns = columns_of_tile<E>(job, tile);
      const E* input = static_cast<const E*>(job.packed_input) + tile * tile_width<E> * job.rows;
      if (past && columns == tile_width<E>)
        weight_rows<E, T, true>(grad, input, job.rows, to + tile * tile_width<E>, job.inputs, columns);
      else
        weight_rows<E, T, false>(grad, input, job.rows, to + tile * tile_width<E>, job.inputs, columns);
    }
  });
}

template <class E>
void weight_gradient(const LinearWeightGradientJob& job, int64_t begin, int64_t end) {
  constexpr int64_t line = vector_bytes / sizeof(E);
  const bool aligned = job.inputs % line == 0 && reinterpret_cast<uintptr_t>(job.weight_grad) % vector_bytes == 0;
  const bool past = aligned && job.inputs * job.outputs * static_cast<int64_t>(sizeof(E)) >= past_caches_from;
  const int64_t groups = groups_of_outputs(job);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t output = item % groups * most_rows_of_tile, left = job.outputs - output;
    weight_piece<E>(job, output, left < most_rows_of_tile ? left : most_rows_of_tile, item / groups, past);
  }
  all_past_caches();
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
