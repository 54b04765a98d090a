// The gradient of the weights where a filter has few taps (a first layer's): lanes are filters.
//
// A winner's patch would fill but a part of a vector. So each output of the convolution is asked in turn: the lanes
// that won there multiply what came back with the output's patch, number by number; the others add 0.
#pragma once

#include "conv_pool/weight_gradient.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int numbers_of_sums = vector_bytes == 64 ? 26 : 12;
constexpr int64_t instructions_of_a_message = 8;

// What came back to the cells of a band's windows for N filters, where windows do not overlap: read as it is needed.
template <class E>
class WindowLanes {
 public:
  static constexpr int N = lanes_of<E>;
  using Lane = Int<E>;

  WindowLanes(const ConvPoolBackwardJob& job, int64_t row_step, int64_t)
      : job_(job), row_step_(job.conv[0].stride * row_step), column_step_(job.conv[1].stride * job.channels) {}

  // Pooled rows p .. p + rows - 1 of image n, in a band from convolution row `first_row` on.
  void read(int64_t n, int64_t p, int64_t rows, int64_t first_row, int64_t filter, int64_t filters) {
    n_ = n, p_ = p, rows_ = rows, first_row_ = first_row, filter_ = filter, filters_ = filters;
  }

  // Calls body(offset of an output's patch in the band, what came back in the lanes that won there).
  template <class F>
  SWITCHGRAD_INLINE void for_each(const F& body) const {
    const Axis &y = job_.pool[0], &x = job_.pool[1];
    for (int64_t i = p_; i < p_ + rows_; ++i)
      for (int64_t q = 0; q < x.places; ++q) {
        const int64_t at = ((n_ * y.places + i) * x.places + q) * job_.filters + filter_;
        const auto grad = load_first<N>(static_cast<const E*>(job_.grad) + at, filters_);
        const auto codes = widen_codes<Lane, N, uint8_t>(load_first<N>(job_.codes + at, filters_));
        for (int64_t r = y.first(i); r < y.last(i); ++r)
          for (int64_t s = x.first(q); s < x.last(q); ++s) {
            const int64_t row = y.start(i) + r * y.dilation - first_row_, column = x.start(q) + s * x.dilation;
            const auto won = codes == broadcast<Lane, N>(static_cast<Lane>(r * x.kernel + s));
            body(row * row_step_ + column * column_step_, select(won, grad, Numbers<E>{}));
          }
      }
  }

 private:
  const ConvPoolBackwardJob& job_;
  int64_t row_step_, column_step_;
  int64_t n_ = 0, p_ = 0, rows_ = 0, first_row_ = 0, filter_ = 0, filters_ = 0;
};

// The same where windows are squares: without a question in the innermost loops.
template <class E>
class SquareLanes {
 public:
  static constexpr int N = lanes_of<E>;
  using Lane = Int<E>;

  SquareLanes(const ConvPoolBackwardJob& job, int64_t row_step, int64_t)
      : job_(job), row_step_(job.conv[0].stride * row_step), column_step_(job.conv[1].stride * job.channels) {}

  void read(int64_t n, int64_t p, int64_t rows, int64_t first_row, int64_t filter, int64_t filters) {
    const int64_t pixel = (n * job_.pool[0].places + p) * job_.pool[1].places;
    first_ = pixel * job_.filters + filter, rows_ = rows, filters_ = filters;
    first_patch_ = (2 * p - first_row) * row_step_;
  }

  template <class F>
  SWITCHGRAD_INLINE void for_each(const F& body) const {
    const E* grads = static_cast<const E*>(job_.grad) + first_;
    const uint8_t* codes = job_.codes + first_;
    for (int64_t i = 0; i < rows_; ++i) {
      int64_t patch = first_patch_ + 2 * i * row_step_;
      for (int64_t q = 0; q < job_.pool[1].places; ++q, patch += 2 * column_step_) {
        const auto grad = load_first<N>(grads, filters_);
        const auto code = widen_codes<Lane, N, uint8_t>(load_first<N>(codes, filters_));
        const auto won = [&](int cell) __attribute__((always_inline)) {
          return select(code == broadcast<Lane, N>(static_cast<Lane>(cell)), grad, Numbers<E>{});
        };
        body(patch, won(0));
        body(patch + column_step_, won(1));
        body(patch + row_step_, won(2));
        body(patch + row_step_ + column_step_, won(3));
        grads += job_.filters;
        codes += job_.filters;
      }
    }
  }

 private:
  const ConvPoolBackwardJob& job_;
  int64_t row_step_, column_step_;
  int64_t first_ = 0, first_patch_ = 0, rows_ = 0, filters_ = 0;
};

// The same where windows overlap: an output that won several of them gets the sum of what they send, once.
template <class E>
class OutputLanes {
 public:
  static constexpr int N = lanes_of<E>;

  OutputLanes(const ConvPoolBackwardJob& job, int64_t row_step, int64_t most_rows)
      : arrivals_(job),
        columns_(job.pool[1].size),
        row_step_(job.conv[0].stride * row_step),
        column_step_(job.conv[1].stride * job.channels),
        where_(most_rows * columns_),
        number_(most_rows * columns_ * N) {}

  // Convolution rows `row` .. row + rows - 1 of image n, the first of the band.
  void read(int64_t n, int64_t row, int64_t rows, int64_t, int64_t filter, int64_t filters) {
    count_ = 0;
    for (int64_t i = 0; i < rows; ++i) {
      arrivals_.go_to_row(n, row + i);
      for (int64_t column = 0; column < columns_; ++column)
        if (arrivals_.go_to_column(column)) {
          where_[count_] = i * row_step_ + column * column_step_;
          store(number_.get() + count_++ * N, arrivals_.at(filter, filters));
        }
    }
  }

  template <class F>
  SWITCHGRAD_INLINE void for_each(const F& body) const {
    for (int64_t i = 0; i < count_; ++i) body(where_[i], load<Numbers<E>>(number_.get() + i * N));
  }

 private:
  Arrivals<E> arrivals_;
  int64_t columns_, row_step_, column_step_;
  Scratch<int64_t> where_;
  Scratch<E> number_;
  int64_t count_ = 0;
};

template <class E, int R, int L, bool Finite = true>
struct AddProducts {
  static constexpr int N = lanes_of<E>;

  template <class Outputs>
  __attribute__((noinline)) static void run(const Outputs& outputs, const E* patches, int64_t row_step, E* sums,
                                            int64_t sums_row) {
    Vec<E, N> sum[R][L] = {};
    outputs.for_each([&](int64_t where, Vec<E, N> grad) __attribute__((always_inline)) {
      const E* row = patches + where;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r, row = next_row(row, row_step))
#pragma GCC unroll 8
        for (int i = 0; i < L; ++i) {
          const Vec<E, N> product = grad * broadcast<E, N>(row[i]);
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
  const auto outputs = [](const Axis& a) { return a.kernel < a.stride ? a.kernel : a.stride; };  // for a window
  const int64_t taps = job.conv[0].kernel * job.run();
  const int64_t filled = job.filters < lanes_of<E> ? job.filters : lanes_of<E>;
  const int64_t vectors = job.conv[0].kernel * rounded_up(job.run(), lanes_of<E>) / lanes_of<E>;
  return taps * outputs(job.pool[0]) * outputs(job.pool[1]) < (vectors + instructions_of_a_message) * filled;
}

// Convolution rows of a band, as few as keep what came back to them in the nearest cache too.
template <class E>
int64_t rows_of_lanes(const ConvPoolJob& job, int64_t row_bytes) {
  constexpr int64_t room = (12 << 10) / vector_bytes;
  const int64_t rows = rows_of_outputs(job, row_bytes), fit = room / job.pool[1].size;
  return rows <= fit ? rows : fit < 1 ? 1 : fit;
}

template <class E, class Outputs, class ForEachBand>
void weight_gradient_by_outputs(const ConvPoolBackwardJob& job, Band<E>& band, int64_t together,
                                const ForEachBand& for_each, const Share<E>& share) {
  constexpr int N = lanes_of<E>;
  const Chunks chunks(job, numbers_of_sums, 1);
  Outputs outputs(job, band.row_step(), together);
  const int64_t filters = share.end - share.begin, vectors = rounded_up(filters, N) / N;
  const int64_t size = chunks.filter_size() * N;
  const Scratch<E> sums(vectors * size);
  for (int64_t i = 0; i < vectors * size; ++i) sums[i] = 0;
  for_each([&](int64_t n, int64_t place, int64_t rows, int64_t first, int64_t seen, const E* patches) {
    const bool finite = all_finite(patches, seen, band.row_step(), band.row_bytes() / static_cast<int64_t>(sizeof(E)));
    for (int64_t v = 0; v < vectors; ++v) {
      outputs.read(n, place, rows, first, share.begin + v * N, filters - v * N);
      for (int64_t c = 0; c < chunks.count(); ++c) {
        const E* from = patches + chunks.in_patch(chunks[c], band.row_step());
        E* to = sums.get() + v * size + chunks.in_filter(chunks[c]) * N;
        if (finite)
          with_chunk<AddFiniteProducts, E, numbers_of_sums>(chunks[c], outputs, from, band.row_step(), to,
                                                            chunks.row_size());
        else
          with_chunk<AddAnyProducts, E, numbers_of_sums>(chunks[c], outputs, from, band.row_step(), to,
                                                         chunks.row_size());
      }
    }
  });
  for (int64_t k = 0; k < filters; ++k)
    for (int64_t r = 0; r < job.conv[0].kernel; ++r)
      for (int64_t i = 0; i < job.run(); ++i)
        share.sums[k * share.step + r * row_of_sums<E>(job) + i] = sums[k / N * size + (r * job.run() + i) * N + k % N];
}

template <class E>
void weight_gradient_of_few_taps(const ConvPoolBackwardJob& job, const Share<E>& share) {
  Band<E> band(job, true);
  if (windows_overlap(job)) {
    const int64_t together = rows_of_lanes<E>(job, band.row_bytes());
    const auto bands = [&](const auto& add) { for_each_band_of_outputs(job, share, band, together, add); };
    return weight_gradient_by_outputs<E, OutputLanes<E>>(job, band, together, bands, share);
  }
  const int64_t together = rows_of_windows(job, band.row_bytes());
  const auto bands = [&](const auto& add) { for_each_band(job, share, band, together, add); };
  if (has_squares(job)) return weight_gradient_by_outputs<E, SquareLanes<E>>(job, band, together, bands, share);
  weight_gradient_by_outputs<E, WindowLanes<E>>(job, band, together, bands, share);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
