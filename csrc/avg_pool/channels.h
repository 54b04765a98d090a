// Some vectors of neighbouring channels of a pixel.
#pragma once

#include "avg_pool/lanes.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// At -O2 GCC keeps a loop of eight turns, and with it the array that it walks in memory instead of registers.
#define SWITCHGRAD_UNROLL _Pragma("GCC unroll 8")

// Several vectors of neighbouring channels, so that every visit to a pixel reads a few whole cache lines.
template <class Sum, int N, int M>
struct Wide {
  Vec<Sum, N> part[M] = {};
  SWITCHGRAD_INLINE Wide operator+(const Wide& other) const {
    Wide sum;
    SWITCHGRAD_UNROLL
    for (int m = 0; m < M; ++m) sum.part[m] = part[m] + other.part[m];
    return sum;
  }
};

template <class T, int N, int M, class Cover>
SWITCHGRAD_INLINE Wide<typename Average<T>::Sum, N, M> load_channels(const typename Average<T>::Raw* from,
                                                                     Cover cover) {
  Wide<typename Average<T>::Sum, N, M> wide;
  SWITCHGRAD_UNROLL
  for (int m = 0; m < M; ++m) wide.part[m] = load_wide<T, N>(from + m * N, cover);
  return wide;
}

template <class T, int N, int M, class Cover>
SWITCHGRAD_INLINE void store_channels(typename Average<T>::Raw* to, const Wide<typename Average<T>::Sum, N, M>& wide,
                                      Cover cover) {
  SWITCHGRAD_UNROLL
  for (int m = 0; m < M; ++m) store_narrow<T, N>(to + m * N, wide.part[m], cover);
}

template <class T, int N, int M, class Cover>
SWITCHGRAD_INLINE void store_averages(typename Average<T>::Raw* to, const Wide<typename Average<T>::Sum, N, M>& wide,
                                      bool past, Cover cover) {
  SWITCHGRAD_UNROLL
  for (int m = 0; m < M; ++m) store_average<T, N>(to + m * N, wide.part[m], past, cover);
}

template <bool Multiply, class Sum, int N, int M>
SWITCHGRAD_INLINE Wide<Sum, N, M> scaled_channels(const Wide<Sum, N, M>& wide, Sum factor) {
  Wide<Sum, N, M> result;
  SWITCHGRAD_UNROLL
  for (int m = 0; m < M; ++m) result.part[m] = scaled<Multiply>(wide.part[m], broadcast<Sum, N>(factor));
  return result;
}

// Calls body(vectors, c, cover) for all channels: `Most` vectors at a time while they last, then four, then one.
template <int N, int Most, class F>
SWITCHGRAD_INLINE void each_channel(int64_t channels, const F& body) {
  int64_t c = 0;
  if constexpr (Most > 4)
    for (; c + Most * N <= channels; c += Most * N) body(std::integral_constant<int, Most>{}, c, Whole{});
  for (; c + 4 * N <= channels; c += 4 * N) body(std::integral_constant<int, 4>{}, c, Whole{});
  if (c < channels)
    blocks<N>(channels - c, [&](int64_t at, auto cover) { body(std::integral_constant<int, 1>{}, c + at, cover); });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
