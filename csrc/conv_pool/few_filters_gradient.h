// The gradient of the weights where filters would leave most lanes empty: lanes are neighbouring windows, as forward.
//
// What came back is turned over, so that a vector holds N windows of one filter, once for each of their four outputs: 0
// in the windows that another output won. Sums of a few taps of a few filters stay in registers while rows of windows
// go by; their lanes are added up in the end.
#pragma once

#include "conv_pool/few_filters.h"
#include "conv_pool/few_taps.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int most_taps_of_tile = 5;  // neighbours in a row of taps
constexpr int filters_of_gradient(int taps) { return vector_bytes == 64 ? (taps > 3 ? 3 : 4) : taps > 3 ? 1 : 2; }

// Whether that takes fewer products than the winners' patches have vectors.
template <class E>
bool has_few_products(const ConvPoolJob& job) {
  constexpr int64_t N = lanes_of<E>;
  const int64_t windows = job.pool[1].places, products = 4 * job.taps() * job.channels * rounded_up(windows, N);
  return has_few_filters<E>(job) &&
         products < windows * N * instructions_of_a_message + windows * job.conv[0].kernel * rounded_up(job.run(), N);
}

// What came back to some rows of windows of one image: for each filter, each vector of windows, each of four outputs.
template <class E>
class WindowGradients {
 public:
  static constexpr int N = lanes_of<E>;
  using Lane = Int<E>;

  WindowGradients(const ConvPoolBackwardJob& job, int64_t filters, int64_t most_rows)
      : job_(job),
        filters_(filters),
        vectors_(rounded_up(job.pool[1].places, N) / N),
        filter_step_(most_rows * vectors_ * 4 * N),
        numbers_(rounded_up(filters, most_together) * filter_step_) {
    for (int64_t i = 0; i < rounded_up(filters, most_together) * filter_step_; ++i) numbers_[i] = 0;
  }

  int64_t filter_step() const { return filter_step_; }
  const E* of_filter(int64_t k) const { return numbers_.get() + k * filter_step_; }

  // Pooled rows p .. p + rows - 1 of image n, filters from `filter` on.
  void read(int64_t n, int64_t p, int64_t rows, int64_t filter) const {
    const int64_t places = job_.pool[1].places;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t v = 0; v < vectors_; ++v) {
        const int64_t pixel = (n * job_.pool[0].places + p + i) * places + v * N;
        read_windows(pixel * job_.filters + filter, places - v * N, numbers_.get() + (i * vectors_ + v) * 4 * N);
      }
  }

 private:
  static constexpr int64_t most_together = 12;  // a multiple of all numbers of filters that a tile may have

  // Not inlined: in a larger function GCC keeps the vectors in memory.
  __attribute__((noinline)) void read_windows(int64_t from, int64_t count, E* to) const {
    const E* grad = static_cast<const E*>(job_.grad) + from;
    const uint8_t* codes = job_.codes + from;
    Vec<E, N> number[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) number[i] = i < count ? load_first<N>(grad + i * job_.filters, filters_) : Vec<E, N>{};
    turn_over<E, N>(number);
    uint8_t turned[N][N];
    turn_codes(codes, count, turned);
#pragma GCC unroll 16
    for (int k = 0; k < N; ++k) {
      if (k >= filters_) break;
      const auto code = widen_codes<Lane, N, uint8_t>(load<Vec<uint8_t, N>>(turned[k]));
#pragma GCC unroll 4
      for (int cell = 0; cell < 4; ++cell) {
        const auto won = code == broadcast<Lane, N>(static_cast<Lane>(cell));
        store(to + k * filter_step_ + cell * N, select(won, number[k], Vec<E, N>{}));
      }
    }
  }
  SWITCHGRAD_INLINE void turn_codes(const uint8_t* codes, int64_t count, uint8_t (&turned)[N][N]) const {
    if constexpr (N == 16) {
      Vec<uint8_t, N> code[N];
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i)
        code[i] = i < count ? load_first<N>(codes + i * job_.filters, filters_) : Vec<uint8_t, N>{};
      turn_over<uint8_t, N>(code);
#pragma GCC unroll 16
      for (int k = 0; k < N; ++k) store(turned[k], code[k]);
    } else {
      for (int64_t k = 0; k < filters_; ++k)
        for (int64_t i = 0; i < N; ++i) turned[k][i] = i < count ? codes[i * job_.filters + k] : uint8_t{0};
    }
  }

  const ConvPoolBackwardJob& job_;
  int64_t filters_, vectors_, filter_step_;
  Scratch<E> numbers_;
};

// Where the rows of windows of a tile are.
template <class E>
struct SquareRows {
  const E* numbers;  // of the first filter
  int64_t filter_step;
  const E* input;  // the row of the first row of taps, of one channel
  int64_t row_step, half;
  int64_t rows, vectors;
};

// Adds what rows of windows say of T neighbouring taps of F filters to their sums, N lanes each.
template <class E, int F, int T>
__attribute__((noinline)) void add_taps(const SquareRows<E>& at, int64_t tap, E* sums, int64_t filter_step) {
  constexpr int N = lanes_of<E>;
  using V = Vec<E, N>;
  V sum[F][T] = {};
  int64_t column[T + 1];
#pragma GCC unroll 6
  for (int t = 0; t <= T; ++t) column[t] = (tap + t) / 2 + ((tap + t) % 2 != 0 ? at.half : 0);
  const E *upper = at.input, *number = at.numbers;
  for (int64_t row = 0; row < at.rows; ++row, upper += 2 * at.row_step)
    for (int64_t v = 0; v < at.vectors; ++v, number += 4 * N) {
      const E *above = upper + v * N, *below = above + at.row_step;
      V grad[F][4];
#pragma GCC unroll 4
      for (int f = 0; f < F; ++f)
#pragma GCC unroll 4
        for (int cell = 0; cell < 4; ++cell) grad[f][cell] = load<V>(number + f * at.filter_step + cell * N);
#pragma GCC unroll 6
      for (int t = 0; t <= T; ++t) {
        const auto high = load<V>(above + column[t]), low = load<V>(below + column[t]);
#pragma GCC unroll 4
        for (int f = 0; f < F; ++f) {
          if (t < T) sum[f][t] += grad[f][0] * high;
          if (t > 0) sum[f][t - 1] += grad[f][1] * high;
          if (t < T) sum[f][t] += grad[f][2] * low;
          if (t > 0) sum[f][t - 1] += grad[f][3] * low;
        }
      }
    }
#pragma GCC unroll 4
  for (int f = 0; f < F; ++f)
#pragma GCC unroll 5
    for (int t = 0; t < T; ++t) {
      E* to = sums + f * filter_step + t * N;
      store(to, static_cast<V>(load<V>(to) + sum[f][t]));
    }
}

// The sums of a share: for each filter, channel and tap a vector.
template <class E>
class LaneSums {
 public:
  static constexpr int N = lanes_of<E>;

  LaneSums(const ConvPoolBackwardJob& job, int64_t filters)
      : job_(job), filters_(filters), filter_step_(job.channels * job.taps() * N), sums_((filters + 3) * filter_step_) {
    for (int64_t i = 0; i < (filters + 3) * filter_step_; ++i) sums_[i] = 0;
  }

  // Rows of windows, whose first row of taps is read from `rows` on.
  void add(SquareRows<E> at, const WindowGradients<E>& gradients, const E* rows) const {
    const int64_t columns = job_.conv[1].kernel;
    for (int64_t c = 0; c < job_.channels; ++c)
      for (int64_t r = 0; r < job_.conv[0].kernel; ++r)
        for (int64_t s = 0; s < columns; s += most_taps_of_tile) {
          at.input = rows + c * 2 * at.half + r * at.row_step;
          add_some(at, gradients, s, columns - s, sums_.get() + ((c * job_.conv[0].kernel + r) * columns + s) * N);
        }
  }

  void write(const Share<E>& share) const {
    const int64_t taps = job_.taps();
    for (int64_t k = 0; k < filters_; ++k)
      for (int64_t c = 0; c < job_.channels; ++c)
        for (int64_t tap = 0; tap < taps; ++tap) {
          const E* lanes = sums_.get() + k * filter_step_ + (c * taps + tap) * N;
          E total = lanes[0];
          for (int lane = 1; lane < N; ++lane) total += lanes[lane];
          const int64_t r = tap / job_.conv[1].kernel, s = tap % job_.conv[1].kernel;
          share.sums[k * share.step + r * row_of_sums<E>(job_) + s * job_.channels + c] = total;
        }
  }

 private:
  void add_some(const SquareRows<E>& at, const WindowGradients<E>& gradients, int64_t tap, int64_t left,
                E* sums) const {
    switch (left) {
      case 1: return add_all_filters<1>(at, gradients, tap, sums);
      case 2: return add_all_filters<2>(at, gradients, tap, sums);
      case 3: return add_all_filters<3>(at, gradients, tap, sums);
      case 4: return add_all_filters<4>(at, gradients, tap, sums);
      default: return add_all_filters<most_taps_of_tile>(at, gradients, tap, sums);
    }
  }
  template <int T>
  void add_all_filters(SquareRows<E> at, const WindowGradients<E>& gradients, int64_t tap, E* sums) const {
    constexpr int F = filters_of_gradient(T);
    for (int64_t k = 0; k < filters_; k += F) {
      at.numbers = gradients.of_filter(k);
      add_taps<E, F, T>(at, tap, sums + k * filter_step_, filter_step_);
    }
  }

  const ConvPoolBackwardJob& job_;
  int64_t filters_, filter_step_;
  Scratch<E> sums_;
};

// False where the input of the share holds a number that is not finite, which a 0 must not meet: then nothing is done.
template <class E>
bool weight_gradient_of_few_filters(const ConvPoolBackwardJob& job, const Share<E>& share) {
  constexpr int64_t room = 28 << 10;
  const int64_t heights = job.pool[0].places, kernel = job.conv[0].kernel, filters = share.end - share.begin;
  const int64_t vectors = rounded_up(job.pool[1].places, lanes_of<E>) / lanes_of<E>;
  const int64_t row_bytes = (4 * job.filters * vectors + 4 * job.channels * (vectors + 1)) * vector_bytes;
  const int64_t fit = room / row_bytes, together = fit < 1 ? 1 : fit < heights ? fit : heights;
  const PartedRows<E> parted(job, 2 * together + kernel - 1);
  const WindowGradients<E> gradients(job, filters, together);
  const LaneSums<E> sums(job, filters);
  for (int64_t n = share.first_image; n < share.end_image; ++n)
    for (int64_t p = 0; p < heights; p += together) {
      const int64_t count = heights - p < together ? heights - p : together, seen = 2 * count + kernel - 1;
      const E* rows = parted.read(n, 2 * p, seen);
      if (!all_finite(rows, seen, parted.row_step(), parted.row_step())) return false;
      gradients.read(n, p, count, share.begin);
      sums.add({nullptr, gradients.filter_step(), nullptr, parted.row_step(), parted.half(), count, vectors}, gradients,
               rows);
    }
  sums.write(share);
  return true;
}

// ---- the choice --------------------------------------------------------------------------------------------------

// Filters begin .. end - 1, counted on through the parts of the batch.
template <class E>
void conv_pool_weight_gradient(const ConvPoolBackwardJob& job, int64_t begin, int64_t end) {
  const int64_t parts = weight_parts<E>(job), size = sums_of_filter<E>(job);
  for (int64_t item = begin; item < end;) {
    const int64_t part = item / job.filters, first = item % job.filters;
    const int64_t last = first + end - item < job.filters ? first + end - item : job.filters;
    const Share<E> share{part * job.batch / parts,
                         (part + 1) * job.batch / parts,
                         first,
                         last,
                         static_cast<E*>(job.weight_sums) + item * size,
                         size};
    for (int64_t i = 0; i < (last - first) * size; ++i) share.sums[i] = 0;
    if (job.bias_grad) bias_gradient<E>(job, share);
    const bool done = has_few_products<E>(job) && weight_gradient_of_few_filters<E>(job, share);
    if (!done && has_few_taps<E>(job)) weight_gradient_of_few_taps<E>(job, share);
    if (!done && !has_few_taps<E>(job)) weight_gradient_by_winners<E>(job, share);
    item += last - first;
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
