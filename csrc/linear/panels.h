// What a batch is packed into, and how much of it the registers hold.
#pragma once

#include "common/products.h"
#include "linear/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Sums that the registers hold, as vectors, beside what they are made of.
constexpr int sums_in_registers = vector_bytes == 64 ? 24 : 12;

// The gradients take products of T numbers with three vectors.
constexpr int vectors_of_tile = 3;
constexpr int most_rows_of_tile = sums_in_registers / vectors_of_tile;
template <class E>
constexpr int64_t tile_width = vectors_of_tile * lanes_of<E>;

// The gradient lies in panels of this many columns: panel, row, column.
constexpr int64_t panel_width = 16;

inline int64_t parts_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

// Calls body(T) with T (an integral constant) = count, which is 1 .. most_rows_of_tile.
template <int T = most_rows_of_tile, class F>
SWITCHGRAD_INLINE void with_rows(int64_t count, const F& body) {
  if constexpr (T > 1) {
    if (count < T) return with_rows<T - 1>(count, body);
  }
  body(std::integral_constant<int, T>{});
}

template <class E>
const E* at(const Matrix& matrix, int64_t row, int64_t column) {
  return static_cast<const E*>(matrix.data) + row * matrix.row_step + column * matrix.column_step;
}

// Copies `columns` numbers of a row and fills up with zeros.
template <class E>
void copy_row(const E* from, int64_t step, int64_t columns, E* to, int64_t width) {
  if (step == 1) {
    std::memcpy(to, from, static_cast<size_t>(columns) * sizeof(E));
  } else {
    for (int64_t j = 0; j < columns; ++j) to[j] = from[j * step];
  }
  for (int64_t j = columns; j < width; ++j) to[j] = 0;
}

// -- the gradient

inline int64_t panels_of_grad(const LinearJob& job) { return parts_of(job.outputs, panel_width); }
inline int64_t packed_grad_size(const LinearJob& job) { return panels_of_grad(job) * job.rows * panel_width; }

// One row of a panel. As in PyTorch, a ReLU holds back where its output is 0 or below, which NaN is not.
template <class E>
SWITCHGRAD_INLINE void pack_grad_row(const LinearGradientJob& job, int64_t row, int64_t column, int64_t columns,
                                     E* to) {
  const E* grad = at<E>(job.grad, row, column);
  copy_row(grad, job.grad.column_step, columns, to, panel_width);
  if (job.output.data == nullptr) return;
  E passed[panel_width];
  copy_row(at<E>(job.output, row, column), job.output.column_step, columns, passed, panel_width);
  for (int64_t j = 0; j < panel_width; ++j) to[j] = passed[j] <= 0 ? E{0} : to[j];
}

template <class E>
void pack_grad(const LinearGradientJob& job, int64_t begin, int64_t end) {
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t column = panel * panel_width, left = job.outputs - column;
    const int64_t columns = left < panel_width ? left : panel_width;
    E* to = static_cast<E*>(job.packed_grad) + column * job.rows;
    E sums[panel_width] = {};
    for (int64_t row = 0; row < job.rows; ++row, to += panel_width) {
      pack_grad_row(job, row, column, columns, to);
      for (int64_t j = 0; j < panel_width; ++j) sums[j] += to[j];
    }
    if (job.bias_grad == nullptr) continue;
    std::memcpy(static_cast<E*>(job.bias_grad) + column, sums, static_cast<size_t>(columns) * sizeof(E));
  }
}

// -- the input, in tiles of columns: tile, row, column

template <class E>
int64_t tiled_input_items(const LinearJob& job) {
  return parts_of(job.inputs, tile_width<E>);
}
template <class E>
int64_t tiled_input_size(const LinearJob& job) {
  return tiled_input_items<E>(job) * job.rows * tile_width<E>;
}

template <class E>
int64_t columns_of_tile(const LinearJob& job, int64_t tile) {
  const int64_t left = job.inputs - tile * tile_width<E>;
  return left < tile_width<E> ? left : tile_width<E>;
}

template <class E>
void tile_input(const LinearWeightGradientJob& job, int64_t begin, int64_t end) {
  for (int64_t tile = begin; tile < end; ++tile) {
    E* to = static_cast<E*>(job.packed_input) + tile * tile_width<E> * job.rows;
    const int64_t columns = columns_of_tile<E>(job, tile);
    for (int64_t row = 0; row < job.rows; ++row, to += tile_width<E>)
      copy_row(at<E>(job.input, row, tile * tile_width<E>), job.input.column_step, columns, to, tile_width<E>);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
