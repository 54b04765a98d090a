// Maps of one window (pooling to one number a map), forward and backward: nothing is prepared for a row or a window.
//
// A map is one row of cells, whatever its axes, and is summed as every row is: up to 16 cells one after the other, of
// more those 16 apart first. So planar maps are read in whole vectors, and the bits are the same in every layout.
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

template <class Sum>
Sum whole_factor(const AverageJob& job) {
  return static_cast<Sum>(job.bins[0].factor[0] * job.bins[1].factor[0] * job.bins[2].factor[0]);
}

// The maps of a planar input one after the other; one with holes between its rows is copied first.
template <class Raw>
class MapReader {
 public:
  MapReader(const AverageJob& job, int64_t begin)
      : job_(job),
        image_(begin / job.channels),
        channel_(begin % job.channels),
        rows_(job.bins[0].size * job.bins[1].size),
        is_compact_((job.bins[1].size == 1 || job.stride[3] == job.bins[2].size) &&
                    (job.bins[0].size == 1 || job.stride[2] == job.bins[1].size * job.bins[2].size)),
        copy_(is_compact_ ? 0 : rows_ * job.bins[2].size) {}

  const Raw* next() {
    const Raw* map = static_cast<const Raw*>(job_.from) + image_ * job_.stride[0] + channel_ * job_.stride[1];
    if (++channel_ == job_.channels) {
      channel_ = 0;
      ++image_;
    }
    return is_compact_ ? map : copied(map);
  }

 private:
  const Raw* copied(const Raw* map) const {
    const int64_t height = job_.bins[1].size, width = job_.bins[2].size;
    for (int64_t row = 0; row < rows_; ++row)
      std::memcpy(copy_.get() + row * width, map + row / height * job_.stride[2] + row % height * job_.stride[3],
                  static_cast<size_t>(width) * sizeof(Raw));
    return copy_.get();
  }

  const AverageJob& job_;
  int64_t image_, channel_, rows_;
  bool is_compact_;
  Scratch<Raw> copy_;
};

// `joined` in a vector: each half is added to the other, down to one lane.
template <int By, int... I>
constexpr auto brought_down(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, (I + By) % static_cast<int>(sizeof...(I))...>{};
}
template <class Sum, int N, int By = N / 2>
SWITCHGRAD_INLINE Sum join_lanes(Vec<Sum, N> sums) {
  if constexpr (N == 1) {
    return sums;
  } else if constexpr (By == 0) {
    return sums[0];
  } else {
    const auto upper = pick<Sum, N>(sums, sums, brought_down<By>(std::make_integer_sequence<int, N>{}));
    return join_lanes<Sum, N, By / 2>(sums + upper);
  }
}

// The last cells of a map, fewer than sixteen, as `load_wide` reads them.
template <class Raw>
struct LastCells {
  Raw cells[partial_sums] = {};
  LastCells(const Raw* from, int64_t count) {
    for (int64_t s = 0; s < count; ++s) cells[s] = from[s];
  }
};

// The sixteen sums in vectors of half a cache line at most: maps begin anywhere, and vectors as long as a line would
// nearly all be read across the border of two.
template <class T>
SWITCHGRAD_INLINE typename Average<T>::Sum sum_wide_map(const typename Average<T>::Raw* map, int64_t cells) {
  using Raw = typename Average<T>::Raw;
  constexpr int N = Average<T>::lanes == 16 && sizeof(Raw) == 4 ? 8 : Average<T>::lanes, vectors = partial_sums / N;
  static_assert(partial_sums % N == 0);
  Vec<typename Average<T>::Sum, N> part[vectors] = {};
  int64_t s = 0;
  for (; s + partial_sums <= cells; s += partial_sums) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) part[v] = part[v] + load_wide<T, N>(map + s + v * N);
  }
  if (s < cells) {
    if constexpr (has_parts) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v)
        if (s + v * N < cells) part[v] = part[v] + load_wide<T, N>(map + s + v * N, Part{cells - s - v * N});
    } else {
      const LastCells<Raw> last(map + s, cells - s);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) part[v] = part[v] + load_wide<T, N>(last.cells + v * N);
    }
  }
#pragma GCC unroll 4
  for (int half = vectors / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int v = 0; v < half; ++v) part[v] = part[v] + part[v + half];
  }
  return join_lanes<typename Average<T>::Sum, N>(part[0]);
}

template <class T>
SWITCHGRAD_INLINE typename Average<T>::Sum sum_map(const typename Average<T>::Raw* map, int64_t cells) {
  if (cells > partial_sums) return sum_wide_map<T>(map, cells);
  typename Average<T>::Sum total = 0;
  for (int64_t s = 0; s < cells; ++s) total += load_wide<T, 1>(map + s);
  return total;
}

template <class T, bool Multiply>
void average_maps(const AverageJob& job, int64_t begin, int64_t end) {
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;
  const int64_t cells = job.bins[0].size * job.bins[1].size * job.bins[2].size;
  const auto factor = whole_factor<Sum>(job);
  MapReader<Raw> maps(job, begin);
  for (int64_t item = begin; item < end; ++item) {
    const Sum total = sum_map<T>(maps.next(), cells);
    store_narrow<T, 1>(static_cast<Raw*>(job.to) + item, scaled<Multiply>(total, factor));
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
