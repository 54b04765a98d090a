// Maps of one window (pooling to one number a map), forward and backward: nothing is prepared for a row or a window,
// and several maps are summed at once, because the last sum along the columns is a chain of single additions.
#pragma once

#include "avg_pool/lanes.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Whether the one window of every map is the map.
inline bool covers_whole_maps(const AverageJob& job) {
  for (const Bins& bins : job.bins)
    if (bins.places != 1 || bins.dilation != 1 || bins.start[0] != 0 || bins.cells[0] != bins.size) return false;
  return true;
}

// Whether, besides, maps follow each other in memory.
inline bool pools_whole_maps(const AverageJob& job) {
  if (!covers_whole_maps(job)) return false;
  const Bins &z = job.bins[0], &y = job.bins[1], &x = job.bins[2];
  const int64_t slice = y.size * x.size, map = z.size * slice;
  return (y.size == 1 || job.stride[3] == x.size) && (z.size == 1 || job.stride[2] == slice) &&
         (job.channels == 1 || job.stride[1] == map) && (job.batch == 1 || job.stride[0] == map * job.channels);
}

template <class Sum>
Sum whole_factor(const AverageJob& job) {
  return static_cast<Sum>(job.bins[0].factor[0] * job.bins[1].factor[0] * job.bins[2].factor[0]);
}

// The sums of a map's columns; of wide maps those of columns s, s + 16, s + 32 ...
template <class T>
SWITCHGRAD_INLINE void sum_rows(const typename Average<T>::Raw* map, int64_t rows, int64_t width,
                                typename Average<T>::Sum (&sums)[partial_sums]) {
  using Sum = typename Average<T>::Sum;
  cascade<Average<T>::lanes>(0, width, [&](auto n, int64_t w, auto cover) {
    constexpr int N = decltype(n)::value;
    auto column = load_wide<T, N>(map + w, cover);
    for (int64_t i = 1; i < rows; ++i) column = column + load_wide<T, N>(map + i * width + w, cover);
    Sum* to = sums + w % partial_sums;
    const Vec<Sum, N> before = w < partial_sums ? Vec<Sum, N>{} : load<Vec<Sum, N>>(to);
    const auto sum = static_cast<Vec<Sum, N>>(before + column);
    if (w < partial_sums) {
      store(to, sum);
    } else {
      store(to, sum, cover);
    }
  });
}

template <class T, bool Multiply>
void average_maps(const AverageJob& job, int64_t begin, int64_t end) {
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;
  constexpr int64_t together = 8;
  const int64_t rows = job.bins[0].size * job.bins[1].size, width = job.bins[2].size, map = rows * width;
  const auto factor = whole_factor<Sum>(job);
  Sum sums[together][partial_sums] = {};
  for (int64_t item = begin; item < end; item += together) {
    const int64_t count = end - item < together ? end - item : together;
    for (int64_t j = 0; j < count; ++j)
      sum_rows<T>(static_cast<const Raw*>(job.from) + (item + j) * map, rows, width, sums[j]);
    Sum total[together] = {};
    if (width > partial_sums) {
      for (int64_t j = 0; j < together; ++j) total[j] = joined(sums[j]);
    } else {
      for (int64_t s = 0; s < width; ++s)
        for (int64_t j = 0; j < together; ++j) total[j] += sums[j][s];
    }
    for (int64_t j = 0; j < count; ++j)
      store_narrow<T, 1>(static_cast<Raw*>(job.to) + item + j, scaled<Multiply>(total[j], factor));
  }
}

// The adjoint, for rows begin .. end - 1 of the maps: one number into every cell of a map.
template <class T, bool Multiply>
void spread_maps(const AverageJob& job, int64_t begin, int64_t end) {
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;
  constexpr int N = Average<T>::lanes;
  const int64_t rows = job.bins[0].size * job.bins[1].size, width = job.bins[2].size;
  const auto factor = whole_factor<Sum>(job);
  for (int64_t item = begin; item < end;) {
    const int64_t map = item / rows, until = (map + 1) * rows < end ? (map + 1) * rows : end;
    const Sum share = 0 + scaled<Multiply>(load_wide<T, 1>(static_cast<const Raw*>(job.from) + map), factor);
    Raw* to = static_cast<Raw*>(job.to) + item * width;
    const Raw number = narrowed<T, 1>(share);
    cascade<N>(0, (until - item) * width, [&](auto n, int64_t w, auto cover) {
      store(to + w, broadcast<Raw, decltype(n)::value>(number), cover);
    });
    item = until;
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
