// y = x W^T + b for batches of so few rows that they would not fill a vector: products of rows with rows of the weight.
#pragma once

#include "linear/panels.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int64_t most_few_rows = 8;
constexpr bool are_few(const LinearJob& job) { return job.rows <= most_few_rows; }

// Rows of the weight that go beside each other past M rows of the batch.
constexpr int weight_rows_beside(int m) { return sums_in_registers / m < 4 ? sums_in_registers / m : 4; }

// From row to row of the packed batch: an odd number of cache lines, or rows would fall on few places of the cache.
template <class E>
int64_t few_rows_step(const LinearJob& job) {
  constexpr int64_t line = lanes_of<E> > 64 / static_cast<int>(sizeof(E)) ? lanes_of<E> : 64 / sizeof(E);
  return (parts_of(job.inputs, line) | 1) * line;
}

template <class E>
void pack_few_rows(const LinearForwardJob& job) {
  const int64_t step = few_rows_step<E>(job);
  for (int64_t row = 0; row < job.rows; ++row)
    copy_row(at<E>(job.input, row, 0), job.input.column_step, job.inputs, static_cast<E*>(job.packed) + row * step,
             step);
}

template <class E, int M, int R>
struct RowProducts {
  static constexpr int N = lanes_of<E>;
  Vec<E, N> sum[M][R];

  SWITCHGRAD_INLINE void clear() {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[m][r] = Vec<E, N>{};
  }
  // Adds the products of one vector of each row of the batch with one of each row of the weight.
  template <class... Vectors>
  SWITCHGRAD_INLINE void add(const E* batch, int64_t step, Vectors... weights) {
    add_each(batch, step, std::make_integer_sequence<int, R>{}, weights...);
  }

 private:
  template <int... r, class... Vectors>
  SWITCHGRAD_INLINE void add_each(const E* batch, int64_t step, std::integer_sequence<int, r...>, Vectors... weights) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const auto x = load<Vec<E, N>>(batch + m * step);
      ((sum[m][r] += x * weights), ...);
    }
  }
};

// The sums of M rows of the batch with R rows of the weight, to found[m][r].
template <class E, int M, int... r>
__attribute__((noinline)) void multiply_rows(const E* batch, int64_t batch_step, const E* weight, int64_t weight_step,
                                             int64_t inputs, E* found, std::integer_sequence<int, r...>) {
  constexpr int N = lanes_of<E>, R = sizeof...(r);
  RowProducts<E, M, R> products;
  products.clear();
  const int64_t whole = inputs / N * N;
  for (int64_t k = 0; k < whole; k += N) {
    (__builtin_prefetch(weight + r * weight_step + k + 1024 / static_cast<int64_t>(sizeof(E)), 0, 3), ...);
    products.add(batch + k, batch_step, load<Vec<E, N>>(weight + r * weight_step + k)...);
  }
  if (whole < inputs)
    products.add(batch + whole, batch_step, load_first<N>(weight + r * weight_step + whole, inputs - whole)...);
  for (int m = 0; m < M; ++m)
    for (int i = 0; i < R; ++i) {
      E lanes[N];
      std::memcpy(lanes, &products.sum[m][i], sizeof(lanes));
      for (int half = N / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
      found[m * R + i] = lanes[0];
    }
}

template <class E, int M, int R>
void few_rows_group(const LinearForwardJob& job, int64_t output) {
  E found[M * R];
  const int64_t step = few_rows_step<E>(job);
  multiply_rows<E, M>(static_cast<const E*>(job.packed), step, static_cast<const E*>(job.weight) + output * job.inputs,
                      job.inputs, job.inputs, found, std::make_integer_sequence<int, R>{});
  for (int i = 0; i < R; ++i) {
    const E bias = job.bias == nullptr ? E{0} : static_cast<const E*>(job.bias)[output + i];
    for (int m = 0; m < M; ++m) {
      const E value = found[m * R + i] + bias;
      static_cast<E*>(job.output)[m * job.outputs + output + i] = job.relu && value <= 0 ? E{0} : value;
    }
  }
}

// Calls body(M) with M (an integral constant) = rows, which is 1 .. most_few_rows.
template <int M = most_few_rows, class F>
SWITCHGRAD_INLINE void with_few_rows(int64_t rows, const F& body) {
  if constexpr (M > 1) {
    if (rows < M) return with_few_rows<M - 1>(rows, body);
  }
  body(std::integral_constant<int, M>{});
}

inline int64_t few_rows_items(const LinearJob& job) {
  return parts_of(job.outputs, weight_rows_beside(static_cast<int>(job.rows)));
}

// Items begin .. end - 1 of `few_rows_items`.
template <class E>
void forward_few_rows(const LinearForwardJob& job, int64_t begin, int64_t end) {
  with_few_rows(job.rows, [&](auto M) {
    constexpr int R = weight_rows_beside(M);
    const int64_t last = end * R < job.outputs ? end * R : job.outputs;
    int64_t output = begin * R;
    for (; output + R <= last; output += R) few_rows_group<E, M, R>(job, output);
    for (; output < last; ++output) few_rows_group<E, M, 1>(job, output);
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
