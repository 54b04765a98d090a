// The gradient of the weights where filters would leave most lanes empty: lanes are neighbouring windows, as forward.
//
// What came back is turned over, so that a vector holds N windows of one filter. What a tap reads for them is chosen
// from its four neighbours, lane by lane: first from two rows, then from two columns, whose choice serves two taps.
// Sums of a row of taps of a few filters stay in registers while rows of windows go by; their lanes are added up in the
// end.
#pragma once

#include "conv_pool/few_filters.h"
#include "conv_pool/few_taps.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int most_taps_of_tile = 5;                             // neighbours in a row of taps
constexpr int filters_of_gradient = vector_bytes == 64 ? 3 : 1;  // whose sums and choices fit the registers

// Whether that takes fewer operations than the winners' patches have vectors: a tap's choices take as long as its
// product.
template <class E>
bool has_few_products(const ConvPoolJob& job) {
  constexpr int64_t N = lanes_of<E>;
  const int64_t windows = job.pool[1].places, products = 2 * job.taps() * job.channels * rounded_up(windows, N);
  return has_few_filters<E>(job) &&
         products < windows * N * instructions_of_a_message + windows * job.conv[0].kernel * rounded_up(job.run(), N);
}

// What came back to some rows of windows of one image: for each filter, each vector of windows, the numbers (0 where
// nobody won) and which of its outputs each window chose.
template <class E>
class WindowGradients {
 public:
  static constexpr int N = lanes_of<E>;
  using Lane = Int<E>;

  WindowGradients(const ConvPoolBackwardJob& job, int64_t filters, int64_t most_rows)
      : job_(job),
        filters_(filters),
        vectors_(rounded_up(job.pool[1].places, N) / N),
        filter_step_(most_rows * vectors_ * N),
        numbers_(rounded_up(filters, filters_of_gradient) * filter_step_),
        codes_(rounded_up(filters, filters_of_gradient) * filter_step_) {
    for (int64_t i = 0; i < rounded_up(filters, filters_of_gradient) * filter_step_; ++i)
      numbers_[i] = 0, codes_[i] = 0;
  }

  // Numbers, and codes, from a filter to the next.
  int64_t filter_step() const { return filter_step_; }
  const E* numbers(int64_t k) const { return numbers_.get() + k * filter_step_; }
  const uint8_t* codes(int64_t k) const { return codes_.get() + k * filter_step_; }

  // Pooled rows p .. p + rows - 1 of image n, filters from `filter` on.
  void read(int64_t n, int64_t p, int64_t rows, int64_t filter) const {
    const int64_t places = job_.pool[1].places;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t v = 0; v < vectors_; ++v) {
        const int64_t from = ((n * job_.pool[0].places + p + i) * places + v * N) * job_.filters + filter;
        const int64_t count = places - v * N, to = (i * vectors_ + v) * N;
        if (filters_ <= N / 2)
          read_windows<N / 2>(from, count, to);
        else
          read_windows<N>(from, count, to);
      }
  }

 private:
  // At most K filters. Not inlined: in a larger function GCC keeps the vectors in memory.
  template <int K>
  __attribute__((noinline)) void read_windows(int64_t from, int64_t count, int64_t to) const {
    const E* grad = static_cast<const E*>(job_.grad) + from;
    const uint8_t* codes = job_.codes + from;
    Vec<E, N> number[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) number[i] = i < count ? load_first<N>(grad + i * job_.filters, filters_) : Vec<E, N>{};
    turn_over<E, N>(number);
    uint8_t turned[K][N];
    turn_codes<K>(codes, count, turned);
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
      if (k >= filters_) break;
      const auto code = widen_codes<Lane, N, uint8_t>(load<Vec<uint8_t, N>>(turned[k]));
      store(numbers_.get() + k * filter_step_ + to, select(code < broadcast<Lane, N>(4), number[k], Vec<E, N>{}));
      std::memcpy(codes_.get() + k * filter_step_ + to, turned[k], N);
    }
  }
  template <int K>
  SWITCHGRAD_INLINE void turn_codes(const uint8_t* codes, int64_t count, uint8_t (&turned)[K][N]) const {
    if constexpr (N == 16) {
      Vec<uint8_t, N> code[N];
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i)
        code[i] = i < count ? load_first<N>(codes + i * job_.filters, filters_) : Vec<uint8_t, N>{};
      turn_over<uint8_t, N>(code);
#pragma GCC unroll 16
      for (int k = 0; k < K; ++k) store(turned[k], code[k]);
    } else {
      for (int64_t k = 0; k < filters_; ++k)
        for (int64_t i = 0; i < N; ++i) turned[k][i] = i < count ? codes[i * job_.filters + k] : uint8_t{0};
    }
  }

  const ConvPoolBackwardJob& job_;
  int64_t filters_, vectors_, filter_step_;
  Scratch<E> numbers_;
  Scratch<uint8_t> codes_;
};

// Which of two vectors each lane is taken from: the second where its code has a bit.
template <class E>
class Choice {
 public:
  static constexpr int N = lanes_of<E>;
  using V = Vec<E, N>;

  Choice() = default;
#if defined(__AVX512BW__)
  SWITCHGRAD_INLINE Choice(const uint8_t* codes, uint8_t bit) {
    __m128i bytes;
    if constexpr (N == 16)
      bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    else
      bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes));
    second_ = _mm_test_epi8_mask(bytes, _mm_set1_epi8(static_cast<char>(bit)));
  }
  SWITCHGRAD_INLINE V of(V first, V second) const {
    if constexpr (sizeof(E) == 4)
      return bits<V>(_mm512_mask_blend_ps(second_, bits<__m512>(first), bits<__m512>(second)));
    else
      return bits<V>(_mm512_mask_blend_pd(static_cast<__mmask8>(second_), bits<__m512d>(first), bits<__m512d>(second)));
  }

 private:
  __mmask16 second_;
#else
  SWITCHGRAD_INLINE Choice(const uint8_t* codes, uint8_t bit) {
    const auto lanes = widen_codes<Int<E>, N, uint8_t>(load<Vec<uint8_t, N>>(codes));
    second_ = (lanes & broadcast<Int<E>, N>(bit)) != Vec<Int<E>, N>{};
  }
  SWITCHGRAD_INLINE V of(V first, V second) const { return select(second_, second, first); }

 private:
  Vec<Int<E>, N> second_;
#endif
};

// A vector that is used often. GCC would rather read it again each time, even from where it has put it itself.
template <class E>
SWITCHGRAD_INLINE Vec<E, lanes_of<E>> loaded(const E* from) {
  auto v = load<Vec<E, lanes_of<E>>>(from);
#if defined(__AVX512BW__)
  __asm__("" : "+v"(v));
#endif
  return v;
}

// Where the rows of windows of a tile are.
template <class E>
struct SquareRows {
  const E* numbers;  // of the first filter
  const uint8_t* codes;
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
  const auto column = [&](int64_t s) { return at.input + s / 2 + (s % 2 != 0 ? at.half : 0); };
  const E *first = column(tap), *second = column(tap + 1), *number = at.numbers;  // every second column is a neighbour
  const uint8_t* code = at.codes;
  for (int64_t row = 0; row < at.rows; ++row, first += 2 * at.row_step, second += 2 * at.row_step)
    for (int64_t v = 0; v < at.vectors; ++v, number += N, code += N) {
      V grad[F], left[F];
      Choice<E> right[F], low[F];
#pragma GCC unroll 4
      for (int f = 0; f < F; ++f) {
        grad[f] = load<V>(number + f * at.filter_step);
        right[f] = Choice<E>(code + f * at.filter_step, 1);
        low[f] = Choice<E>(code + f * at.filter_step, 2);
      }
#pragma GCC unroll 6
      for (int t = 0; t <= T; ++t) {
        const E* from = (t % 2 != 0 ? second : first) + v * N + t / 2;
        const V high = loaded(from), lower = loaded(from + at.row_step);
#pragma GCC unroll 4
        for (int f = 0; f < F; ++f) {
          const V chosen = low[f].of(high, lower);
          if (t > 0) sum[f][t - 1] += grad[f] * right[f].of(left[f], chosen);
          left[f] = chosen;
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

// The sums of a share: for each filter a vector for each channel and tap, and one for the bias.
template <class E>
class LaneSums {
 public:
  static constexpr int N = lanes_of<E>;

  LaneSums(const ConvPoolBackwardJob& job, int64_t filters)
      : job_(job),
        filters_(filters),
        bias_(job.channels * job.taps() * N),
        filter_step_(bias_ + N),
        sums_(rounded_up(filters, filters_of_gradient) * filter_step_) {
    for (int64_t i = 0; i < rounded_up(filters, filters_of_gradient) * filter_step_; ++i) sums_[i] = 0;
  }

  // Rows of windows, whose first row of taps is read from `rows` on.
  void add(SquareRows<E> at, const WindowGradients<E>& gradients, const E* rows) const {
    const int64_t columns = job_.conv[1].kernel;
    for (int64_t k = 0; k < filters_; ++k) {
      E* bias = sums_.get() + k * filter_step_ + bias_;
      auto sum = load<Vec<E, N>>(bias);
      for (int64_t i = 0; i < at.rows * at.vectors; ++i) sum += load<Vec<E, N>>(gradients.numbers(k) + i * N);
      store(bias, sum);
    }
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
          const int64_t r = tap / job_.conv[1].kernel, s = tap % job_.conv[1].kernel;
          share.sums[k * share.step + r * row_of_sums<E>(job_) + s * job_.channels + c] =
              total(sums_.get() + k * filter_step_ + (c * taps + tap) * N);
        }
    for (int64_t k = 0; k < filters_; ++k)
      share.sums[(k + 1) * share.step - N] = total(sums_.get() + k * filter_step_ + bias_);
  }

 private:
  static E total(const E* lanes) {
    E sum = lanes[0];
    for (int lane = 1; lane < N; ++lane) sum += lanes[lane];
    return sum;
  }
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
    constexpr int F = filters_of_gradient;
    for (int64_t k = 0; k < filters_; k += F) {
      at.numbers = gradients.numbers(k);
      at.codes = gradients.codes(k);
      add_taps<E, F, T>(at, tap, sums + k * filter_step_, filter_step_);
    }
  }

  const ConvPoolBackwardJob& job_;
  int64_t filters_, bias_, filter_step_;
  Scratch<E> sums_;
};

// False where the input of the share holds a number that is not finite, which a 0 must not meet: then nothing is done.
template <class E>
bool weight_gradient_of_few_filters(const ConvPoolBackwardJob& job, const Share<E>& share) {
  constexpr int64_t room = 28 << 10;
  const int64_t heights = job.pool[0].places, kernel = job.conv[0].kernel, filters = share.end - share.begin;
  const int64_t vectors = rounded_up(job.pool[1].places, lanes_of<E>) / lanes_of<E>;
  const int64_t row_bytes = (2 * job.filters * vectors + 4 * job.channels * (vectors + 1)) * vector_bytes;
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
      sums.add({nullptr, nullptr, gradients.filter_step(), nullptr, parted.row_step(), parted.half(), count, vectors},
               gradients, rows);
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
    if (!has_few_products<E>(job) || !weight_gradient_of_few_filters<E>(job, share)) {
      if (job.bias_grad) bias_gradient<E>(job, share);
      if (has_few_taps<E>(job))
        weight_gradient_of_few_taps<E>(job, share);
      else
        weight_gradient_by_winners<E>(job, share);
    }
    item += last - first;
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
