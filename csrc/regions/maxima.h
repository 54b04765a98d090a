// The largest cell of each bin of each box, and going by its place. As in max_pool/best.h: first of ties, of several
// NaN the last, the largest of a row first and then of the rows, so the first cell is row-major.
#pragma once

#include "regions/blocks.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class A>
struct Largest {
  static constexpr int N = region_vector<A>, count = region_vectors<A>;
  Vec<A, N> value[count];
  Vec<Int<A>, N> place[count];

  SWITCHGRAD_INLINE static Largest at(const A* values, const Int<A>* places) {
    Largest l;
    for (int i = 0; i < count; ++i) {
      l.value[i] = load<Vec<A, N>>(values + i * N);
      l.place[i] = load<Vec<Int<A>, N>>(places + i * N);
    }
    return l;
  }
  SWITCHGRAD_INLINE static Largest cell(const A* values, int64_t place) {
    Largest l;
    for (int i = 0; i < count; ++i) {
      l.value[i] = load<Vec<A, N>>(values + i * N);
      l.place[i] = broadcast<Int<A>, N>(static_cast<Int<A>>(place));
    }
    return l;
  }
  SWITCHGRAD_INLINE void meet(const Largest& next) {
    for (int i = 0; i < count; ++i) {
      const auto wins = (next.value[i] > value[i]) | (next.value[i] != next.value[i]);
      value[i] = select(wins, next.value[i], value[i]);
      place[i] = select(wins, next.place[i], place[i]);
    }
  }
  SWITCHGRAD_INLINE void put(A* values, Int<A>* places) const {
    for (int i = 0; i < count; ++i) {
      store(values + i * N, value[i]);
      store(places + i * N, place[i]);
    }
  }
};

// The rows that a box has worked out, and one bin.
template <class A>
struct MaximaScratch {
  explicit MaximaScratch(int64_t columns)
      : length(columns * region_lanes),
        values(2 * length),
        places(2 * length),
        value(region_lanes),
        place(region_lanes) {}
  int64_t length;
  Scratch<A> values;
  Scratch<Int<A>> places;
  Scratch<A> value;
  Scratch<Int<A>> place;
};

template <class A>
void largest_of_row(const RegionJob& job, const A* map, int64_t k, int64_t h, MaximaScratch<A>& scratch) {
  const BinBounds& columns = job.bounds[1];
  for (int64_t q = 0; q < job.places[1]; ++q) {
    const int64_t first = columns.first[k * job.places[1] + q], last = columns.last[k * job.places[1] + q];
    if (first >= last) continue;
    const int64_t row = h * job.width;
    auto best = Largest<A>::cell(map + (row + first) * region_lanes, row + first);
    for (int64_t w = first + 1; w < last; ++w) best.meet(Largest<A>::cell(map + (row + w) * region_lanes, row + w));
    const int64_t to = (h & 1) * scratch.length + q * region_lanes;
    best.put(scratch.values.get() + to, scratch.places.get() + to);
  }
}

template <class T>
void largest_of_box(const RegionJob& job, const RegionItem& item, int64_t k, const Wide<T>* map,
                    MaximaScratch<Wide<T>>& scratch) {
  using A = Wide<T>;
  const BinBounds *rows = &job.bounds[0], *columns = &job.bounds[1];
  HeldRows have;
  for (int64_t p = 0; p < job.places[0]; ++p) {
    const int64_t first = rows->first[k * job.places[0] + p], last = rows->last[k * job.places[0] + p];
    const int64_t at = k * job.pooled_stride[0] + item.channel * job.pooled_stride[1] + p * job.pooled_stride[2];
    for (int64_t q = 0; q < job.places[1]; ++q) {
      const bool some = first < last && columns->first[k * job.places[1] + q] < columns->last[k * job.places[1] + q];
      auto best = Largest<A>::cell(map, -1);
      for (int64_t h = first; some && h < last; ++h) {
        if (!have.has(h)) {
          largest_of_row(job, map, k, h, scratch);
          have.hold(h);
        }
        const int64_t from = (h & 1) * scratch.length + q * region_lanes;
        const auto row = Largest<A>::at(scratch.values.get() + from, scratch.places.get() + from);
        if (h == first) {
          best = row;
        } else {
          best.meet(row);
        }
      }
      best.put(scratch.value.get(), scratch.place.get());
      for (int64_t lane = 0; lane < item.count; ++lane) {
        const int64_t to = at + lane * job.pooled_stride[1] + q * job.pooled_stride[3];
        static_cast<Raw<T>*>(job.pooled)[to] = Element<T>::narrow(some ? scratch.value[lane] : A{});
        job.winners[to] = static_cast<int32_t>(scratch.place[lane]);
      }
    }
  }
}

template <class T>
void largest_of_regions(const RegionJob& job, int64_t begin, int64_t end) {
  using A = Wide<T>;
  Scratch<A> map(job.height * job.width * region_lanes);
  MaximaScratch<A> scratch(job.places[1]);
  for (int64_t i = begin; i < end; ++i) {
    const RegionItem item(job, i);
    if (job.first_box[item.n] == job.first_box[item.n + 1]) continue;
    pack<T>(job, item, map.get());
    for (int64_t b = job.first_box[item.n]; b < job.first_box[item.n + 1]; ++b)
      largest_of_box<T>(job, item, job.box[b], map.get(), scratch);
  }
}

// Calls body(offset in the map, offset in pooled) for the winners of map (n, c), box after box.
template <class F>
SWITCHGRAD_INLINE void for_each_winner(const RegionJob& job, int64_t n, int64_t c, F&& body) {
  const int64_t* stride = job.pooled_stride;
  const int64_t cells = job.height * job.width;
  for (int64_t b = job.first_box[n]; b < job.first_box[n + 1]; ++b)
    for (int64_t p = 0; p < job.places[0]; ++p)
      for (int64_t q = 0; q < job.places[1]; ++q) {
        const int64_t at = job.box[b] * stride[0] + c * stride[1] + p * stride[2] + q * stride[3];
        const int64_t place = job.winners[at];
        body(place >= 0 && place < cells ? place : -1, at);
      }
}

// How many maps from this one on, of its picture, are written together: those that are neighbours in memory.
inline int64_t maps_together(const RegionJob& job, int64_t plane, int64_t end) {
  const int64_t left = job.channels - plane % job.channels, most = job.map_stride[1] == 1 ? region_lanes : 1;
  const int64_t count = left < end - plane ? left : end - plane;
  return count < most ? count : most;
}

template <class T>
void route_regions(const RegionJob& job, int64_t begin, int64_t end) {
  const int64_t *stride = job.map_stride, cells = job.height * job.width;
  Scratch<Wide<T>> sums(cells * region_lanes);
  for (int64_t plane = begin, count; plane < end; plane += count) {
    count = maps_together(job, plane, end);
    const int64_t n = plane / job.channels, first = plane % job.channels;
    for (int64_t lane = 0; lane < count; ++lane) {
      Wide<T>* map = sums.get() + lane * cells;
      for (int64_t i = 0; i < cells; ++i) map[i] = 0;
      for_each_winner(job, n, first + lane, [&](int64_t place, int64_t at) {
        if (place >= 0) map[place] += Element<T>::widen(static_cast<const Raw<T>*>(job.pooled)[at]);
      });
    }
    auto* to = static_cast<Raw<T>*>(job.maps) + n * stride[0] + first * stride[1];
    for (int64_t h = 0; h < job.height; ++h)
      for (int64_t w = 0; w < job.width; ++w)
        for (int64_t lane = 0; lane < count; ++lane)
          to[h * stride[2] + w * stride[3] + lane * stride[1]] =
              Element<T>::narrow(sums[lane * cells + h * job.width + w]);
  }
}

template <class T>
void gather_regions(const RegionJob& job, int64_t begin, int64_t end) {
  const int64_t* stride = job.map_stride;
  for (int64_t plane = begin; plane < end; ++plane) {
    const int64_t n = plane / job.channels, c = plane % job.channels;
    const auto* from = static_cast<const Raw<T>*>(job.maps) + n * stride[0] + c * stride[1];
    for_each_winner(job, n, c, [&](int64_t place, int64_t at) {
      static_cast<Raw<T>*>(job.pooled)[at] =
          place < 0 ? Raw<T>{} : from[place / job.width * stride[2] + place % job.width * stride[3]];
    });
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
