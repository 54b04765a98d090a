// The backward of average pooling over pixels of neighbouring channels: each pooled number is shared out to its cells.
//
// Cells of the same windows get the same number: it is computed once and written to all of them in a row.
#pragma once

#include "avg_pool/channels.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class T, int N, int M, class Cover>
SWITCHGRAD_INLINE void store_alike(typename Average<T>::Raw* to, const Wide<typename Average<T>::Sum, N, M>& wide,
                                   int64_t alike, int64_t step, Cover cover) {
  Vec<typename Average<T>::Raw, N> raw[M];
  SWITCHGRAD_UNROLL
  for (int m = 0; m < M; ++m) raw[m] = narrowed<T, N>(wide.part[m]);
  for (; alike > 0; --alike, to += step) {
    SWITCHGRAD_UNROLL
    for (int m = 0; m < M; ++m) store(to + m * N, raw[m], cover);
  }
}

// Cells of one window.
template <class T, bool Multiply, int N>
__attribute__((noinline)) void spread_one(const typename Average<T>::Raw* pooled, typename Average<T>::Sum factor,
                                          int64_t channels, int64_t alike, typename Average<T>::Raw* to) {
  using Sum = typename Average<T>::Sum;
  each_channel<N, 4>(channels, [&](auto vectors, int64_t c, auto cover) {
    constexpr int M = decltype(vectors)::value;
    const auto share = scaled_channels<Multiply>(load_channels<T, N, M>(pooled + c, cover), factor);
    store_alike<T, N, M>(to + c, Wide<Sum, N, M>() + share, alike, channels, cover);
  });
}

// Cells in windows q_begin .. q_end - 1 of each of the rows.
template <class T, bool Multiply, int N>
__attribute__((noinline)) void spread_some(const Rows<typename Average<T>::Raw>& rows, const Bins& x, int64_t w,
                                           int64_t channels, int64_t alike, typename Average<T>::Raw* to) {
  using Sum = typename Average<T>::Sum;
  each_channel<N, has_parts ? 8 : 4>(channels, [&](auto vectors, int64_t c, auto cover) {
    constexpr int M = decltype(vectors)::value;
    Wide<Sum, N, M> sum;
    for (int64_t q = x.cover_begin[w]; q < x.cover_end[w]; ++q) {
      if (!x.holds(q, w)) continue;
      Wide<Sum, N, M> column;
      for (int64_t i = 0; i < rows.count; ++i) {
        const auto factor = static_cast<Sum>(rows.factor[i] * x.factor[q]);
        const auto pooled = load_channels<T, N, M>(rows.from[i] + q * channels + c, cover);
        column = column + scaled_channels<Multiply>(pooled, factor);
      }
      sum = sum + column;
    }
    store_alike<T, N, M>(to + c, sum, alike, channels, cover);
  });
}

template <class T, bool Multiply, int N>
void spread_channels_last_pixels(const AverageJob& job, int64_t begin, int64_t end) {
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;
  const Bins &z = job.bins[0], &y = job.bins[1], &x = job.bins[2];
  const int64_t channels = job.channels;
  Rows<Raw> rows(z.most * y.most);
  for (int64_t item = begin; item < end;) {
    const int64_t row = item / x.size, h = row % y.size, volume = row / y.size;
    rows_over<T>(job, volume / z.size, volume % z.size, h, rows);
    const int64_t until = (row + 1) * x.size < end ? x.size : end - row * x.size;
    for (int64_t w = item - row * x.size, alike = 1; w < until; w += alike, item += alike) {
      Raw* to = static_cast<Raw*>(job.to) + item * channels;
      for (alike = 1; w + alike < until && like_the_one_before(x, w + alike);) ++alike;
      const int64_t q = x.cover_begin[w], over = x.cover_end[w] - q;
      if (rows.count == 0 || over <= 0) {
        std::memset(to, 0, static_cast<size_t>(alike * channels) * sizeof(Raw));
      } else if (rows.count == 1 && over == 1 && x.dilation == 1) {
        const auto factor = static_cast<Sum>(rows.factor[0] * x.factor[q]);
        spread_one<T, Multiply, N>(rows.from[0] + q * channels, factor, channels, alike, to);
      } else {
        spread_some<T, Multiply, N>(rows, x, w, channels, alike, to);
      }
    }
  }
}

template <class T>
void spread_channels_last(const AverageJob& job, int64_t begin, int64_t end) {
  with_scale(job.multiply, [&](auto multiply) {
    with_lanes<Average<T>::lanes>(job.channels, [&](auto n) {
      spread_channels_last_pixels<T, decltype(multiply)::value, decltype(n)::value>(job, begin, end);
    });
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
