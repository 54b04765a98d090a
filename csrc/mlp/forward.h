// The way forward: vectors of rows, turned over once, go through all layers; numbers of a weight go by, each times
// vectors of rows.
#pragma once

#include "layout/turn.h"
#include "linear/few_rows.h"
#include "mlp/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int64_t summed_at_once = 128;  // products that are summed before the sum is put away
constexpr int most_vectors_of_rows = 2;
constexpr int most_outputs_beside = sums_in_registers / 2;

// With more rows, vectors of rows are quicker though most of their lanes are empty.
inline bool are_few(const MlpJob& job) { return job.rows <= 4; }

template <class E>
int64_t vectors_of_rows(const MlpJob& job) {
  return parts_of(job.rows, lanes_of<E>);
}

inline int64_t widest(const MlpJob& job) {
  int64_t found = job.count > 0 ? job.layers[0].inputs : 0;
  for (int64_t at = 0; at < job.count; ++at) found = found > job.layers[at].outputs ? found : job.layers[at].outputs;
  return found;
}

// For what a layer reads, or for what it gives: whole squares of vectors, or a few rows with a cache line between two.
template <class E>
int64_t half_of_room(const MlpForwardJob& job) {
  const int64_t width = are_few(job) ? job.rows : job.vectors * lanes_of<E>;
  return (rounded_up(widest(job), 64) + 64) * width;
}

template <class E>
int64_t mlp_forward_items(const MlpForwardJob& job) {
  return are_few(job) ? 1 : parts_of(vectors_of_rows<E>(job), job.vectors);
}
template <class E>
int64_t mlp_room(const MlpForwardJob& job) {
  return mlp_forward_items<E>(job) * 2 * half_of_room<E>(job);
}

// -- as many rows as fill vectors

// Turns a matrix over, square by square; what is not there is 0, in all of the last squares.
template <class E>
void turn_rows(const E* from, int64_t step, int64_t rows, int64_t columns, E* to, int64_t width) {
  constexpr int N = lanes_of<E>;
  for (int64_t i = 0; i < width; i += N)
    for (int64_t j = 0; j < columns; j += N) {
      const int64_t whole = i + N <= rows && j + N <= columns;
      if (whole) {
        turn_square<E, N>(from + i * step + j, step, to + j * width + i, width);
        continue;
      }
      alignas(64) E square[N][N] = {};
      for (int64_t r = i; r < i + N && r < rows; ++r)
        copy_row(from + r * step + j, 1, columns - j < N ? columns - j : N, square[r - i], N);
      turn_square<E, N>(square[0], N, to + j * width + i, width);
    }
}

// Turns back `columns` lines of `width` rows, of which the first `rows` are there.
template <class E>
void turn_back(const E* from, int64_t width, int64_t rows, int64_t columns, E* to) {
  constexpr int N = lanes_of<E>;
  for (int64_t i = 0; i < rows; i += N)
    for (int64_t j = 0; j < columns; j += N) {
      const E* square = from + j * width + i;
      E* turned = to + i * columns + j;
      if (i + N <= rows && j + N <= columns)
        turn_square<E, N>(square, width, turned, columns);
      else
        turn_part<E, N>(square, width, columns - j, rows - i, turned, columns);
    }
}

// Adds to T outputs of V vectors of rows what `count` inputs give.
template <class E, int T, int V>
__attribute__((noinline)) void add_to_outputs(const E* weight, int64_t step, const E* turned, int64_t count, E* to) {
  constexpr int width = V * lanes_of<E>;
  ProductSums<E, T, V> found;
  found.clear();
  for (int64_t k = 0; k < count; ++k) found.add(weight + k, step, turned + k * width);
  found.add_to(to, width);
}

// The bias stands where sums will be.
template <class E>
void lay_bias(const MlpLayer& layer, int64_t width, E* to) {
  constexpr int N = lanes_of<E>;
  for (int64_t n = 0; n < layer.outputs; ++n) {
    const E bias = layer.bias == nullptr ? E{0} : static_cast<const E*>(layer.bias)[n];
    for (int64_t i = 0; i < width; i += N) store(to + n * width + i, broadcast<E, N>(bias));
  }
}

// As in PyTorch, what is 0 or below stops, which NaN is not.
template <class E>
void hold_back(E* numbers, int64_t count) {
  constexpr int N = lanes_of<E>;
  for (int64_t i = 0; i < count; i += N) {
    const auto v = load<Vec<E, N>>(numbers + i);
    store(numbers + i, select(v <= Vec<E, N>{}, Vec<E, N>{}, v));
  }
}

template <class E, int V>
void layer_of_vectors(const MlpLayer& layer, const E* turned, E* to) {
  constexpr int width = V * lanes_of<E>;
  lay_bias(layer, width, to);
  for (int64_t k = 0; k < layer.inputs; k += summed_at_once) {
    const int64_t left = layer.inputs - k, count = left < summed_at_once ? left : summed_at_once;
    const E* weight = static_cast<const E*>(layer.weight) + k;
    for (int64_t n = 0; n < layer.outputs; n += most_outputs_beside) {
      const int64_t outputs = layer.outputs - n;
      with_rows<most_outputs_beside>(outputs < most_outputs_beside ? outputs : most_outputs_beside, [&](auto T) {
        add_to_outputs<E, T, V>(weight + n * layer.inputs, layer.inputs, turned + k * width, count, to + n * width);
      });
    }
  }
}

template <class E, int V>
void mlp_vectors(const MlpForwardJob& job, int64_t begin, int64_t end) {
  constexpr int64_t width = V * lanes_of<E>;
  E* from = static_cast<E*>(job.room) + begin * 2 * half_of_room<E>(job);
  E* to = from + half_of_room<E>(job);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row = item * width, left = job.rows - row, rows = left < width ? left : width;
    const int64_t inputs = job.layers[0].inputs;
    turn_rows(static_cast<const E*>(job.input) + row * inputs, inputs, rows, inputs, from, width);
    for (int64_t at = 0; at < job.count; ++at) {
      const MlpLayer& layer = job.layers[at];
      layer_of_vectors<E, V>(layer, from, to);
      if (at + 1 < job.count) hold_back(to, layer.outputs * width);
      if (job.outputs[at] != nullptr)
        turn_back(to, width, rows, layer.outputs, static_cast<E*>(job.outputs[at]) + row * layer.outputs);
      E* const other = from;
      from = to;
      to = other;
    }
  }
}

// -- a few rows: products of rows with rows of the weights

template <class E>
void mlp_few_rows(const MlpForwardJob& job) {
  const void* from = job.input;
  E* const packed = static_cast<E*>(job.room);
  E* const own = packed + half_of_room<E>(job);  // what a layer gives, where nobody else wants it
  for (int64_t at = 0; at < job.count; ++at) {
    const MlpLayer& layer = job.layers[at];
    LinearForwardJob one;
    static_cast<LinearJob&>(one) = {job.rows, layer.inputs, layer.outputs};
    one.input = {from, layer.inputs, 1};
    one.weight = layer.weight;
    one.bias = layer.bias;
    one.relu = at + 1 < job.count;
    one.packed = packed;
    one.output = job.outputs[at] != nullptr ? job.outputs[at] : own;
    pack_few_rows<E>(one);
    forward_few_rows<E>(one, 0, few_rows_items(one));
    from = one.output;
  }
}

template <class E>
void mlp_forward(const MlpForwardJob& job, int64_t begin, int64_t end) {
  if (are_few(job)) return mlp_few_rows<E>(job);
  if (job.vectors == 1) return mlp_vectors<E, 1>(job, begin, end);
  mlp_vectors<E, most_vectors_of_rows>(job, begin, end);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
