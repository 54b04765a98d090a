// Lanes of numbers that are added up: half precision travels as float and is rounded once, at the end.
#pragma once

#include "avg_pool/job.h"
#include "common/element.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class T>
struct Average {
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;
  static constexpr bool is_half = !std::is_same_v<Raw, Sum>;
  static constexpr int lanes = vector_bytes / static_cast<int>(sizeof(Sum));
};

#if defined(__AVX512BW__)
constexpr __mmask16 every = 0xffff;  // GCC 12 warns of its own headers where no mask is given
#endif

template <class T, int N>
SWITCHGRAD_INLINE Vec<float, N> widen_lanes(Vec<int16_t, N> raw) {
#if defined(__AVX512BW__)
  if constexpr (std::is_same_v<T, Float16> && N == 16)
    return bits<Vec<float, N>>(_mm512_maskz_cvtph_ps(every, bits<__m256i>(raw)));
#endif
  using Words = Vec<uint32_t, N>;
  const Words half = convert<uint32_t, N>(bits<Vec<uint16_t, N>>(raw));
  if constexpr (std::is_same_v<T, BFloat16>) {
    return bits<Vec<float, N>>(static_cast<Words>(half << 16));
  } else {  // as Element<Float16>::widen
    const Words magnitude = (half & 0x7fff) << 13;
    const Vec<float, N> scaled = bits<Vec<float, N>>(magnitude) * 0x1p112f;
    const Words word =
        select((half & 0x7c00) == 0x7c00, static_cast<Words>(magnitude | 0x7f800000), bits<Words>(scaled));
    return bits<Vec<float, N>>(static_cast<Words>(word | ((half & 0x8000) << 16)));
  }
}

template <class T, int N>
SWITCHGRAD_INLINE Vec<int16_t, N> narrow_lanes(Vec<float, N> sum) {
#if defined(__AVX512BW__)
  if constexpr (std::is_same_v<T, Float16> && N == 16)
    return bits<Vec<int16_t, N>>(
        _mm512_maskz_cvtps_ph(every, bits<__m512>(sum), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
  if constexpr (N == 1) {
    return Element<T>::narrow(sum);
  } else {
    using Words = Vec<uint32_t, N>;
    const Words word = bits<Words>(sum), magnitude = word & 0x7fffffff;
    Words half;
    if constexpr (std::is_same_v<T, BFloat16>) {
      const Words rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
      half = select(magnitude > 0x7f800000, Words{} + 0x7fc0, rounded);
    } else {  // as Element<Float16>::narrow
      const Words subnormal = bits<Words>(bits<Vec<float, N>>(magnitude) + 0.5f) - 0x3f000000;
      const Words rounded = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
      half = select(magnitude < 0x38800000, subnormal, rounded);
      half = select(magnitude >= 0x477ff000, Words{} + 0x7c00, half);
      half = select(magnitude > 0x7f800000, Words{} + 0x7e00, half) | ((word >> 16) & 0x8000);
    }
    return bits<Vec<int16_t, N>>(convert<uint16_t, N>(half));
  }
}

template <class T, int N, class Cover = Whole>
SWITCHGRAD_INLINE Vec<typename Average<T>::Sum, N> load_wide(const typename Average<T>::Raw* from, Cover cover = {}) {
  const auto raw = load<Vec<typename Average<T>::Raw, N>>(from, cover);
  if constexpr (Average<T>::is_half) {
    return widen_lanes<T, N>(raw);
  } else {
    return raw;
  }
}

template <class T, int N>
SWITCHGRAD_INLINE Vec<typename Average<T>::Raw, N> narrowed(Vec<typename Average<T>::Sum, N> sum) {
  if constexpr (Average<T>::is_half) {
    return narrow_lanes<T, N>(sum);
  } else {
    return sum;
  }
}

template <class T, int N, class Cover = Whole>
SWITCHGRAD_INLINE void store_narrow(typename Average<T>::Raw* to, Vec<typename Average<T>::Sum, N> sum,
                                    Cover cover = {}) {
  store(to, narrowed<T, N>(sum), cover);
}

// A sum by its divisor; division by a power of two is multiplication by its inverse, to the last bit.
template <bool Multiply, class V>
SWITCHGRAD_INLINE V scaled(V sum, V factor) {
  if constexpr (Multiply) {
    return sum * factor;
  } else {
    return sum / factor;
  }
}

// Calls body(std::bool_constant<multiply>).
template <class F>
inline void with_scale(bool multiply, F&& body) {
  if (multiply) {
    body(std::true_type{});
  } else {
    body(std::false_type{});
  }
}

// The factors of a row of windows whose outer axes contribute `row`; kept until another row contributes something else.
template <class Sum>
class Factors {
 public:
  explicit Factors(const Bins& width) : width_(width), factors_(width.places) {}

  const Sum* of(double row) {
    if (row != row_) {
      for (int64_t q = 0; q < width_.places; ++q) factors_[q] = static_cast<Sum>(row * width_.factor[q]);
      row_ = row;
    }
    return factors_.get();
  }

 private:
  const Bins& width_;
  Scratch<Sum> factors_;
  double row_ = 0;  // no window's divisor
};

// The sum of the columns first .. last - 1 of a window of `cells` columns. Wide windows have 16 partial sums, whose
// order does not depend on the lanes that an instruction set has. Starting at +0, the sum is never -0.
constexpr int64_t partial_sums = 16;

template <class V>
SWITCHGRAD_INLINE V joined(V (&part)[partial_sums]) {
  for (int64_t half = partial_sums / 2; half > 0; half /= 2)
    for (int64_t j = 0; j < half; ++j) part[j] = static_cast<V>(part[j] + part[j + half]);
  return part[0];
}

template <class V, class F>
SWITCHGRAD_INLINE V sum_columns(int64_t cells, int64_t first, int64_t last, const F& column) {
  if (cells > partial_sums) {
    V part[partial_sums] = {};
    for (int64_t s = first; s < last; ++s) part[s % partial_sums] = static_cast<V>(part[s % partial_sums] + column(s));
    return joined(part);
  }
  V total{};
  for (int64_t s = first; s < last; ++s) total = static_cast<V>(total + column(s));
  return total;
}

// The same for a whole window of neighbours in memory.
template <class Sum>
inline Sum sum_run(const Sum* run, int64_t cells) {
  if (cells <= partial_sums) return sum_columns<Sum>(cells, 0, cells, [&](int64_t s) { return run[s]; });
  Vec<Sum, partial_sums> lanes{};
  int64_t s = 0;
  for (; s + partial_sums <= cells; s += partial_sums) lanes += load<Vec<Sum, partial_sums>>(run + s);
  Sum part[partial_sums];
  std::memcpy(part, &lanes, sizeof(lanes));
  for (int64_t j = 0; s < cells; ++s, ++j) part[j] += run[s];
  return joined(part);
}

// Rows counted off: row, depth, channel and image of each, without a division.
struct Count {
  int64_t row, depth, channel, image;
  int64_t rows, depths, channels;

  Count(int64_t item, int64_t rows_, int64_t depths_, int64_t channels_)
      : row(item % rows_),
        depth(item / rows_ % depths_),
        channel(item / rows_ / depths_ % channels_),
        image(item / rows_ / depths_ / channels_),
        rows(rows_),
        depths(depths_),
        channels(channels_) {}

  void step() {
    if (++row < rows) return;
    row = 0;
    if (++depth < depths) return;
    depth = 0;
    if (++channel < channels) return;
    channel = 0;
    ++image;
  }
};

// The rows of the input in one window, in row-major order, counted from the first row of the plane.
struct Offsets {
  explicit Offsets(int64_t most) : where(most) {}
  int64_t count = 0;
  double factor = 0;  // what the outer axes contribute to the divisor
  Scratch<int64_t> where;
};

class WindowOffsets : public Offsets {
 public:
  explicit WindowOffsets(const AverageJob& job) : Offsets(job.bins[0].kernel * job.bins[1].kernel), job_(job) {}

  void go_to(int64_t od, int64_t p) {
    if (od == depth_ && p == row_) return;
    depth_ = od;
    row_ = p;
    const Bins &z = job_.bins[0], &y = job_.bins[1];
    const int64_t row_step = y.dilation * job_.stride[3];
    factor = z.factor[od] * y.factor[p];
    count = 0;
    for (int64_t a = z.first[od]; a < z.last[od]; ++a) {
      int64_t at =
          (z.start[od] + a * z.dilation) * job_.stride[2] + y.start[p] * job_.stride[3] + y.first[p] * row_step;
      for (int64_t r = y.first[p]; r < y.last[p]; ++r, at += row_step) where[count++] = at;
    }
  }

 private:
  const AverageJob& job_;
  int64_t depth_ = -1, row_ = -1;
};

// The pooled rows whose windows reach over one row of the input: where each begins and what it is divided by.
template <class Number>
struct Rows {
  explicit Rows(int64_t most) : from(most), factor(most) {}
  int64_t count = 0;
  Scratch<const Number*> from;
  Scratch<double> factor;

  void add(const Number* row, double by) {
    from[count] = row;
    factor[count++] = by;
  }
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
