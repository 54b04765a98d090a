// The way back: groups of rows go down through the layers, numbers of their gradients times vectors of the weights as
// they lie; then every weight's gradient is made piece by piece from all rows.
#pragma once

#include "mlp/forward.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// A matrix of `count` rows of `columns` numbers, of which a tile's columns are read row by row. Where the tile would
// read beyond the end of the matrix, its row is copied first.
template <class E>
struct TileOfRows {
  const E* first;
  int64_t columns, there;  // of the matrix; of the tile
  const E* end;

  TileOfRows(const E* matrix, int64_t count, int64_t columns, int64_t column)
      : first(matrix + column), columns(columns), there(columns - column), end(matrix + count * columns) {}
};

// Sums over rows `begin` .. `end` - 1 of a tile: T numbers of `by` (steps: to the next of them, to the next row) times
// V vectors; finish(t, v, sum) takes them.
template <class E, int T, int V, class F>
SWITCHGRAD_INLINE void sum_rows(const TileOfRows<E>& tile, const E* by, int64_t step, int64_t row_step, int64_t begin,
                                int64_t end, const F& finish) {
  constexpr int64_t width = V * lanes_of<E>;
  ProductSums<E, T, V> found;
  found.clear();
  alignas(64) E copied[width];
  for (int64_t row = begin; row < end; ++row) {
    const E* at = tile.first + row * tile.columns;
    if (tile.end - at < width) {
      copy_row(at, 1, tile.there < width ? tile.there : width, copied, width);
      at = copied;
    }
    found.add(by + row * row_step, step, at);
  }
  found.each(finish);
}

// The sums that were put away before, with those of `begin` and on.
template <int N, class E>
SWITCHGRAD_INLINE Vec<E, N> continued(const E* to, Vec<E, N> sum, int64_t begin, int64_t there) {
  return begin == 0 ? sum : load_first<N>(to, there) + sum;
}

// T rows of an input's gradient, a tile of columns of it; `hidden` is what the ReLU before gave, or null.
template <class E, int T, int V>
__attribute__((noinline)) void rows_of_gradient(const TileOfRows<E>& weight, const E* grad, int64_t grad_step,
                                                int64_t begin, int64_t end, const E* hidden, E* to) {
  constexpr int N = lanes_of<E>;
  sum_rows<E, T, V>(weight, grad, grad_step, 1, begin, end, [&](int t, int v, Vec<E, N> sum) {
    const int64_t there = weight.there - v * N, at = t * weight.columns + v * N;
    if (there <= 0) return;
    auto found = continued<N>(to + at, sum, begin, there);
    if (hidden != nullptr) found = select(load_first<N>(hidden + at, there) <= Vec<E, N>{}, Vec<E, N>{}, found);
    store_first<N>(to + at, found, there);
  });
}

// T rows of a weight's gradient, a tile of columns of it.
template <class E, int T, int V>
__attribute__((noinline)) void rows_of_weight(const TileOfRows<E>& input, const E* grad, int64_t outputs, int64_t begin,
                                              int64_t end, E* to) {
  constexpr int N = lanes_of<E>;
  sum_rows<E, T, V>(input, grad, 1, outputs, begin, end, [&](int t, int v, Vec<E, N> sum) {
    const int64_t there = input.there - v * N, at = t * input.columns + v * N;
    if (there > 0) store_first<N>(to + at, continued<N>(to + at, sum, begin, there), there);
  });
}

// Calls body(T, V) for T rows and as many vectors as a tile has that begins `there` columns before the end.
template <class E, class F>
SWITCHGRAD_INLINE void with_tile(int64_t rows, int64_t there, const F& body) {
  with_rows(rows, [&](auto T) {
    if (there > 2 * lanes_of<E>) return body(T, std::integral_constant<int, 3>{});
    if (there > lanes_of<E>) return body(T, std::integral_constant<int, 2>{});
    body(T, std::integral_constant<int, 1>{});
  });
}

// Calls body(begin, end) for blocks of 0 .. count - 1; at least once.
template <class F>
SWITCHGRAD_INLINE void in_blocks(int64_t count, const F& body) {
  int64_t begin = 0;
  do {
    const int64_t end = begin + summed_at_once < count ? begin + summed_at_once : count;
    body(begin, end);
    begin = end;
  } while (begin < count);
}

// -- rows

inline int64_t row_groups(const MlpJob& job) { return parts_of(job.rows, most_rows_of_tile); }

// Rows `row` .. `row + rows - 1` of the gradient of a layer's inputs.
template <class E>
void gradient_below(const MlpJob& job, int64_t at, int64_t row, int64_t rows, const E* grads, const E* hidden, E* to) {
  const MlpLayer& layer = job.layers[at];
  for (int64_t column = 0; column < layer.inputs; column += tile_width<E>) {
    const TileOfRows<E> weight(static_cast<const E*>(layer.weight), layer.outputs, layer.inputs, column);
    const int64_t place = row * layer.inputs + column;
    in_blocks(layer.outputs, [&](int64_t begin, int64_t end) {
      const bool last = end == layer.outputs;
      with_tile<E>(rows, weight.there, [&](auto T, auto V) {
        rows_of_gradient<E, T, V>(weight, grads + row * layer.outputs, layer.outputs, begin, end,
                                  last && hidden != nullptr ? hidden + place : nullptr, to + place);
      });
    });
  }
}

template <class E>
void mlp_row_gradients(const MlpBackwardJob& job, int64_t begin, int64_t end) {
  const int64_t group = parts_of(job.rows, row_groups(job));
  for (int64_t row = begin * group; row < end * group && row < job.rows; row += group) {
    const int64_t left = job.rows - row, rows = left < group ? left : group;
    for (int64_t at = job.count - 1; at > job.first; --at)
      gradient_below(job, at, row, rows, static_cast<const E*>(job.grads[at]),
                     static_cast<const E*>(job.hidden[at - 1]), static_cast<E*>(job.grads[at - 1]));
    if (job.input_grad != nullptr)
      gradient_below<E>(job, 0, row, rows, static_cast<const E*>(job.grads[0]), nullptr,
                        static_cast<E*>(job.input_grad));
  }
}

// -- weights: all layers' pieces are counted one after the other; a piece is some rows of a gradient, one tile wide

inline int64_t groups_of(const MlpLayer& layer) { return parts_of(layer.outputs, most_rows_of_tile); }

// A layer without inputs has one tile, for the bias.
template <class E>
int64_t tiles_of(const MlpLayer& layer) {
  return layer.inputs > 0 ? parts_of(layer.inputs, tile_width<E>) : 1;
}

template <class E>
int64_t mlp_weight_items(const MlpJob& job) {
  int64_t items = 0;
  for (int64_t at = 0; at < job.count; ++at) items += groups_of(job.layers[at]) * tiles_of<E>(job.layers[at]);
  return items;
}

// Sums of `count` neighbouring columns over all rows, in blocks.
template <class E>
void sum_bias(const E* grads, int64_t rows, int64_t step, int64_t count, E* to) {
  E total[most_rows_of_tile] = {};
  in_blocks(rows, [&](int64_t begin, int64_t end) {
    E sums[most_rows_of_tile] = {};
    for (int64_t row = begin; row < end; ++row)
      for (int64_t n = 0; n < count; ++n) sums[n] += grads[row * step + n];
    for (int64_t n = 0; n < count; ++n) total[n] += sums[n];
  });
  for (int64_t n = 0; n < count; ++n) to[n] = total[n];
}

template <class E>
void weight_piece(const MlpBackwardJob& job, int64_t at, int64_t output, int64_t tile) {
  const MlpLayer& layer = job.layers[at];
  const int64_t left = layer.outputs - output, rows = left < most_rows_of_tile ? left : most_rows_of_tile;
  const E* grads = static_cast<const E*>(job.grads[at]) + output;
  if (tile == 0 && job.bias_grads[at] != nullptr)
    sum_bias(grads, job.rows, layer.outputs, rows, static_cast<E*>(job.bias_grads[at]) + output);
  if (job.weight_grads[at] == nullptr || layer.inputs == 0) return;
  const void* given = at == 0 ? job.input : job.hidden[at - 1];
  const TileOfRows<E> input(static_cast<const E*>(given), job.rows, layer.inputs, tile * tile_width<E>);
  E* to = static_cast<E*>(job.weight_grads[at]) + output * layer.inputs + tile * tile_width<E>;
  in_blocks(job.rows, [&](int64_t begin, int64_t end) {
    with_tile<E>(rows, input.there,
                 [&](auto T, auto V) { rows_of_weight<E, T, V>(input, grads, layer.outputs, begin, end, to); });
  });
}

template <class E>
void mlp_weight_gradients(const MlpBackwardJob& job, int64_t begin, int64_t end) {
  int64_t first = 0;
  for (int64_t at = 0; at < job.count; ++at) {
    const int64_t groups = groups_of(job.layers[at]), items = groups * tiles_of<E>(job.layers[at]);
    for (int64_t item = begin > first ? begin - first : 0; item < items && first + item < end; ++item)
      if (at >= job.first) weight_piece<E>(job, at, item % groups * most_rows_of_tile, item / groups);
    first += items;
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
