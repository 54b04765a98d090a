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

// The sums of the cells that lie 16 apart, from each of the first N after `from` on.
template <class T, int N>
SWITCHGRAD_INLINE Vec<typename Average<T>::Sum, N> sum_apart(const typename Average<T>::Raw* map, int64_t from,
                                                             int64_t cells) {
  Vec<typename Average<T>::Sum, N> sum{};
  int64_t s = from;
  for (; s + N <= cells; s += partial_sums) sum = sum + load_wide<T, N>(map + s);
  if (s >= cells) return sum;
  if constexpr (N == 1) {
    return sum;
  } else if constexpr (has_parts) {
    return sum + load_wide<T, N>(map + s, Part{cells - s});
  } else {
    typename Average<T>::Raw last[N] = {};
    for (int64_t j = 0; s + j < cells; ++j) last[j] = map[s + j];
    return sum + load_wide<T, N>(last);
  }
}

// `joined` in vectors: sums that lie `Apart` from one another are added last.
template <class T, int N, int Apart = N>
SWITCHGRAD_INLINE Vec<typename Average<T>::Sum, N> join_vectors(const typename Average<T>::Raw* map, int64_t from,
                                                                int64_t cells) {
  if constexpr (Apart == partial_sums) {
    return sum_apart<T, N>(map, from, cells);
  } else {
    return join_vectors<T, N, 2 * Apart>(map, from, cells) + join_vectors<T, N, 2 * Apart>(map, from + Apart, cells);
  }
}
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

template <class T>
SWITCHGRAD_INLINE typename Average<T>::Sum sum_map(const typename Average<T>::Raw* map, int64_t cells) {
  constexpr int N = Average<T>::lanes;
  static_assert(partial_sums % N == 0);
  if (cells > partial_sums) return join_lanes<typename Average<T>::Sum, N>(join_vectors<T, N>(map, 0, cells));
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
