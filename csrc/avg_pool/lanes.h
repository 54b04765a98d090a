// Lanes of numbers that are added up: half precision travels as float and is rounded once, at the end.
#pragma once

#include "avg_pool/job.h"
#include "common/element.h"
#include "common/past_caches.h"

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

// Whether the averages may be written past the caches, `cells` of them in a row: each row in whole pieces.
template <class Raw>
bool goes_past_caches(const AverageJob& job, int64_t cells) {
  constexpr int64_t numbers = piece_past_caches / sizeof(Raw);
  return job.past_caches && cells % numbers == 0 && reinterpret_cast<uintptr_t>(job.to) % piece_past_caches == 0;
}
template <int N>
SWITCHGRAD_INLINE int64_t lanes_in(Whole) {
  return N;
}
template <int N>
SWITCHGRAD_INLINE int64_t lanes_in(Part part) {
  return part.lanes;
}
template <class T, int N, class Cover>
SWITCHGRAD_INLINE void store_average(typename Average<T>::Raw* to, Vec<typename Average<T>::Sum, N> sum, bool past,
                                     Cover cover) {
  const auto raw = narrowed<T, N>(sum);
  if (past) {
    store_pieces_past_caches(to, raw, lanes_in<N>(cover));
  } else {
    store(to, raw, cover);
  }
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

// The rows of the input in one window, in row-major order: where the first begins in its plane, and all from there on.
struct Offsets {
  explicit Offsets(int64_t most) : where(most) {}
  int64_t base = 0;
  int64_t count = 0;
  double factor = 0;  // what the outer axes contribute to the divisor
  Scratch<int64_t> where;
};

// Windows with as many rows have them as far apart, so that mostly only the first row is looked up.
class WindowOffsets : public Offsets {
 public:
  explicit WindowOffsets(const AverageJob& job) : Offsets(job.bins[0].kernel * job.bins[1].kernel), job_(job) {}

  void go_to(int64_t od, int64_t p) {
    const Bins &z = job_.bins[0], &y = job_.bins[1];
    const int64_t slices = z.last[od] - z.first[od], rows = y.last[p] - y.first[p];
    if (slices != slices_ || rows != rows_) lay(slices, rows);
    factor = z.factor[od] * y.factor[p];
    base = (z.start[od] + z.first[od] * z.dilation) * job_.stride[2] +
           (y.start[p] + y.first[p] * y.dilation) * job_.stride[3];
  }

 private:
  void lay(int64_t slices, int64_t rows) {
    slices_ = slices;
    rows_ = rows;
    count = 0;
    for (int64_t a = 0; a < slices; ++a)
      for (int64_t r = 0; r < rows; ++r)
        where[count++] = a * job_.bins[0].dilation * job_.stride[2] + r * job_.bins[1].dilation * job_.stride[3];
  }

  const AverageJob& job_;
  int64_t slices_ = -1, rows_ = -1;
};

// Windows of two neighbouring cells, two cells apart, and how many of them have both.
inline bool are_pairs(const Bins& width) {
  return width.kernel == 2 && width.stride == 2 && width.dilation == 1 && width.start[0] == 0;
}
inline int64_t whole_pairs(const Bins& width) { return width.size / 2 < width.places ? width.size / 2 : width.places; }

// Whether two neighbouring cells of an axis lie in the same windows.
inline bool like_the_one_before(const Bins& bins, int64_t at) {
  return bins.dilation == 1 && bins.cover_begin[at] == bins.cover_begin[at - 1] &&
         bins.cover_end[at] == bins.cover_end[at - 1];
}

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

// The pooled rows whose windows reach over input row (d, h) of image n, in row-major order.
template <class T>
void rows_over(const AverageJob& job, int64_t n, int64_t d, int64_t h, Rows<typename Average<T>::Raw>& rows) {
  const Bins &z = job.bins[0], &y = job.bins[1];
  rows.count = 0;
  for (int64_t od = z.cover_begin[d]; od < z.cover_end[d]; ++od) {
    if (!z.holds(od, d)) continue;
    for (int64_t p = y.cover_begin[h]; p < y.cover_end[h]; ++p)
      if (y.holds(p, h))
        rows.add(static_cast<const typename Average<T>::Raw*>(job.from) +
                     ((n * z.places + od) * y.places + p) * job.bins[2].places * job.channels,
                 z.factor[od] * y.factor[p]);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
