// Sixteen channels of a map side by side, [cell][lane], in the precision to compute in.
#pragma once

#include "common/numbers.h"
#include "regions/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class A>
constexpr int region_vector = vector_bytes / static_cast<int>(sizeof(A));
template <class A>
constexpr int region_vectors = static_cast<int>(region_lanes) / region_vector<A>;

// The lanes of a cell as vectors.
template <class A>
struct Lanes {
  static constexpr int N = region_vector<A>, count = region_vectors<A>;
  Vec<A, N> v[count];

  SWITCHGRAD_INLINE static Lanes of(const A* from) {
    Lanes lanes;
    for (int i = 0; i < count; ++i) lanes.v[i] = load<Vec<A, N>>(from + i * N);
    return lanes;
  }
  SWITCHGRAD_INLINE static Lanes all(A value) {
    Lanes lanes;
    for (int i = 0; i < count; ++i) lanes.v[i] = broadcast<A, N>(value);
    return lanes;
  }
  SWITCHGRAD_INLINE void put(A* to) const {
    for (int i = 0; i < count; ++i) store(to + i * N, v[i]);
  }
  SWITCHGRAD_INLINE void add(A weight, const Lanes& other) {
    const auto w = broadcast<A, N>(weight);
    for (int i = 0; i < count; ++i) v[i] += w * other.v[i];
  }
};

template <class A>
SWITCHGRAD_INLINE void add_to(A* to, A weight, const Lanes<A>& lanes) {
  auto sum = Lanes<A>::of(to);
  sum.add(weight, lanes);
  sum.put(to);
}

// What an item stands for: a picture, a block of channels of the result, and the bins that it does.
struct RegionItem {
  int64_t n, channel, count, row_begin, row_end, column_begin, column_end;
  int64_t map_channel, map_step;  // of the map of lane 0, and from lane to lane

  RegionItem(const RegionJob& job, int64_t item) {
    const int64_t bins = job.sensitive ? job.bins() : 1, bin = item % bins;
    channel = item / bins % job.blocks() * region_lanes;
    n = item / bins / job.blocks();
    count = job.channels - channel < region_lanes ? job.channels - channel : region_lanes;
    row_begin = job.sensitive ? bin / job.places[1] : 0;
    row_end = job.sensitive ? row_begin + 1 : job.places[0];
    column_begin = job.sensitive ? bin % job.places[1] : 0;
    column_end = job.sensitive ? column_begin + 1 : job.places[1];
    map_channel = channel * bins + bin;
    map_step = bins;
  }
};

// Where the map of lane 0 begins.
template <class T>
const Raw<T>* first_cell(const RegionJob& job, const RegionItem& item) {
  return static_cast<const Raw<T>*>(job.maps) + item.n * job.map_stride[0] + item.map_channel * job.map_stride[1];
}

// Channels that are neighbours in memory, the first `count` of them; the other lanes are 0.
template <class T>
SWITCHGRAD_INLINE Lanes<Wide<T>> lanes_of_pixel(const Raw<T>* from, int64_t count) {
  constexpr int N = region_vector<Wide<T>>;
  Lanes<Wide<T>> lanes;
  if (count == region_lanes) {
    for (int i = 0; i < region_vectors<Wide<T>>; ++i) lanes.v[i] = load_wide<T, N>(from + i * N);
    return lanes;
  }
  Wide<T> cells[region_lanes];
  for (int64_t lane = 0; lane < region_lanes; ++lane)
    cells[lane] = lane < count ? Element<T>::widen(from[lane]) : Wide<T>{};
  return Lanes<Wide<T>>::of(cells);
}

template <class T>
void pack(const RegionJob& job, const RegionItem& item, Wide<T>* to) {
  const int64_t* stride = job.map_stride;
  const Raw<T>* from = first_cell<T>(job, item);
  for (int64_t h = 0; h < job.height; ++h)
    for (int64_t lane = 0; lane < region_lanes; ++lane) {
      Wide<T>* row = to + h * job.width * region_lanes + lane;
      const Raw<T>* cells = from + lane * item.map_step * stride[1] + h * stride[2];
      for (int64_t w = 0; w < job.width; ++w)
        row[w * region_lanes] = lane < item.count ? Element<T>::widen(cells[w * stride[3]]) : Wide<T>{};
    }
}

template <class T>
void unpack(const RegionJob& job, const RegionItem& item, const Wide<T>* from) {
  const int64_t* stride = job.map_stride;
  auto* to = static_cast<Raw<T>*>(job.maps) + item.n * stride[0] + item.map_channel * stride[1];
  for (int64_t h = 0; h < job.height; ++h)
    for (int64_t lane = 0; lane < item.count; ++lane) {
      const Wide<T>* row = from + h * job.width * region_lanes + lane;
      Raw<T>* cells = to + lane * item.map_step * stride[1] + h * stride[2];
      for (int64_t w = 0; w < job.width; ++w) cells[w * stride[3]] = Element<T>::narrow(row[w * region_lanes]);
    }
}

// The pooled numbers of row p of a box: lanes of channels for each column.
template <class T>
Raw<T>* pooled_row(const RegionJob& job, const RegionItem& item, int64_t k, int64_t p) {
  const int64_t* stride = job.pooled_stride;
  return static_cast<Raw<T>*>(job.pooled) + k * stride[0] + item.channel * stride[1] + p * stride[2];
}

// Rows of a map that a box has worked out, two at a time: neighbouring bins share rows.
class HeldRows {
 public:
  void forget() { held_[0] = held_[1] = -1; }
  bool has(int64_t h) const { return held_[h & 1] == h; }
  void hold(int64_t h) { held_[h & 1] = h; }
  int64_t held(int slot) const { return held_[slot]; }

 private:
  int64_t held_[2] = {-1, -1};
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
