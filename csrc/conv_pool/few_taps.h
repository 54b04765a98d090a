// The gradient of the weights where a filter has few taps (a first layer's): lanes are filters.
//
// A winner's patch would fill but a part of a vector. So each cell of a window is asked in turn: the lanes whose winner
// it is multiply what came back with the cell's patch, number by number; the others add 0.
#pragma once

#include "conv_pool/weight_gradient.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int numbers_of_sums = vector_bytes == 64 ? 26 : 12;

// Windows of some pooled rows of one image, N filters.
template <class E>
struct FilterLanes {
  static constexpr int N = lanes_of<E>;
  using Lane = Int<E>;

  const ConvPoolBackwardJob& job;
  int64_t n, p, rows, first_row;
  int64_t row_step;  // of the band
  int64_t filter, count;

  // Calls body(offset of a cell's patch in the band, what came back in the lanes that it won).
  template <class F>
  SWITCHGRAD_INLINE void for_each(const F& body) const {
    const Axis &y = job.pool[0], &x = job.pool[1];
    for (int64_t i = p; i < p + rows; ++i)
      for (int64_t q = 0; q < x.places; ++q) {
        const int64_t at = ((n * y.places + i) * x.places + q) * job.filters + filter;
        const auto grad = load_first<N>(static_cast<const E*>(job.grad) + at, count);
        const auto codes = widen_codes<Lane, N, uint8_t>(load_first<N>(job.codes + at, count));
        for (int64_t r = y.first(i); r < y.last(i); ++r)
          for (int64_t s = x.first(q); s < x.last(q); ++s) {
            const int64_t row = (y.start(i) + r * y.dilation - first_row) * job.conv[0].stride;
            const int64_t column = (x.start(q) + s * x.dilation) * job.conv[1].stride;
            const auto won = codes == broadcast<Lane, N>(static_cast<Lane>(r * x.kernel + s));
            body(row * row_step + column * job.channels, select(won, grad, Vec<E, N>{}));
          }
      }
  }
};

template <class E, int R, int L, bool Finite = true>
struct AddProducts {
  static constexpr int N = lanes_of<E>;

  static void run(const FilterLanes<E>& lanes, const E* patches, E* sums, int64_t sums_row) {
    Vec<E, N> sum[R][L] = {};
    lanes.for_each([&](int64_t where, Vec<E, N> grad) {
      const E* patch = patches + where;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int i = 0; i < L; ++i) {
          const Vec<E, N> product = grad * broadcast<E, N>(patch[r * lanes.row_step + i]);
          // Lanes that did not win have a number of 0, which must not meet an infinity or NaN.
          sum[r][i] += Finite ? product : select(grad != 0, product, Vec<E, N>{});
        }
    });
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int i = 0; i < L; ++i) {
        E* to = sums + (r * sums_row + i) * N;
        store(to, static_cast<Vec<E, N>>(load<Vec<E, N>>(to) + sum[r][i]));
      }
  }
};

template <class E, int R, int L>
struct AddFiniteProducts : AddProducts<E, R, L, true> {};
template <class E, int R, int L>
struct AddAnyProducts : AddProducts<E, R, L, false> {};

template <class E>
bool all_finite(const E* rows, int64_t count, int64_t row_step, int64_t width) {
  constexpr int N = lanes_of<E>;
  Vec<Int<E>, N> strange{};
  bool finite = true;
  for (int64_t y = 0; y < count; ++y) {
    const E* row = rows + y * row_step;
    int64_t i = 0;
    for (; i + N <= width; i += N) {
      const auto numbers = load<Vec<E, N>>(row + i);
      strange |= numbers - numbers != Vec<E, N>{};
    }
    for (; i < width; ++i) finite &= row[i] - row[i] == 0;
  }
  for (int lane = 0; lane < N; ++lane) finite &= strange[lane] == 0;
  return finite;
}

// Whether this way takes fewer instructions for a winner than going from winner to winner.
template <class E>
bool has_few_taps(const ConvPoolJob& job) {
  constexpr int64_t instructions_of_a_message = 8;
  const int64_t taps = job.conv[0].kernel * job.run(), cells = job.pool[0].kernel * job.pool[1].kernel;
  const int64_t filled = job.filters < lanes_of<E> ? job.filters : lanes_of<E>;
  const int64_t vectors = job.conv[0].kernel * rounded_up(job.run(), lanes_of<E>) / lanes_of<E>;
  return taps * cells < (vectors + instructions_of_a_message) * filled;
}

// Filters begin .. end - 1.
template <class E>
void weight_gradient_by_cells(const ConvPoolBackwardJob& job, int64_t begin, int64_t end) {
  constexpr int N = lanes_of<E>;
  const Chunks chunks(job, numbers_of_sums, 1);
  Band<E> band(job, true);
  const int64_t vectors = rounded_up(end - begin, N) / N, size = chunks.filter_size() * N;
  const Scratch<E> sums(vectors * size);
  for (int64_t i = 0; i < vectors * size; ++i) sums[i] = 0;
  for_each_band(
      job, band, rows_of_messages<E>(job, band.row_bytes()),
      [&](int64_t n, int64_t p, int64_t rows, int64_t first, const E* patches) {
        const int64_t conv_rows = conv_end(job.pool[0], p + rows - 1) - first;
        const bool finite = all_finite(patches, (conv_rows - 1) * job.conv[0].stride + job.conv[0].kernel,
                                       band.row_step(), band.row_bytes() / static_cast<int64_t>(sizeof(E)));
        for (int64_t v = 0; v < vectors; ++v) {
          const FilterLanes<E> lanes{job, n, p, rows, first, band.row_step(), begin + v * N, end - begin - v * N};
          for (int64_t c = 0; c < chunks.count(); ++c) {
            const E* from = patches + chunks.in_patch(chunks[c], band.row_step());
            E* to = sums.get() + v * size + chunks.in_filter(chunks[c]) * N;
            if (finite)
              with_chunk<AddFiniteProducts, E, numbers_of_sums>(chunks[c], lanes, from, to, chunks.row_size());
            else
              with_chunk<AddAnyProducts, E, numbers_of_sums>(chunks[c], lanes, from, to, chunks.row_size());
          }
        }
      });
  for (int64_t k = begin; k < end; ++k) {
    const int64_t lane = (k - begin) % N;
    write_filter(job, k, sums.get() + (k - begin) / N * size + lane, chunks.row_size(), N);
  }
}

template <class E>
void conv_pool_weight_gradient(const ConvPoolBackwardJob& job, int64_t begin, int64_t end) {
  if (job.bias_grad) bias_gradient<E>(job, begin, end);
  if (has_few_taps<E>(job)) return weight_gradient_by_cells<E>(job, begin, end);
  weight_gradient_by_winners<E>(job, begin, end);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
