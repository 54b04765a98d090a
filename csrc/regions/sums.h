// Weighted sums over boxes whose weights are a product of one a row and one a column: every average and every
// interpolation. A row of the map is summed into the columns once, then added to the bins that have it.
#pragma once

#include "regions/blocks.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class A>
struct Entries {
  const int64_t* begin;
  const int32_t* cell;
  const A* weight;

  Entries(const RegionJob& job, int axis, int64_t k)
      : begin(job.weights[axis].begin + k * job.places[axis]),
        cell(job.weights[axis].cell),
        weight(static_cast<const A*>(job.weights[axis].weight)) {}
};

// Rows of the map summed into the columns of a box, of a map that lies in memory as [cell][lane].
template <class A>
struct LaidMap {
  const RegionJob& job;
  const A* map;

  void sum_columns(int64_t h, const Entries<A>& columns, const RegionItem& item, A* sums) const {
    const A* row = map + h * job.width * region_lanes;
    for (int64_t q = item.column_begin; q < item.column_end; ++q) {
      auto sum = Lanes<A>::all(0);
      for (int64_t e = columns.begin[q]; e < columns.begin[q + 1]; ++e)
        sum.add(columns.weight[e], Lanes<A>::of(row + columns.cell[e] * region_lanes));
      sum.put(sums + q * region_lanes);
    }
  }
};

// The same of channels that are neighbours in memory anyway.
template <class T>
struct PixelMap {
  using A = Wide<T>;
  const RegionJob& job;

  void sum_columns(int64_t h, const Entries<A>& columns, const RegionItem& item, A* sums) const {
    const Raw<T>* row = first_cell<T>(job, item) + h * job.map_stride[2];
    for (int64_t q = item.column_begin; q < item.column_end; ++q) {
      auto sum = Lanes<A>::all(0);
      for (int64_t e = columns.begin[q]; e < columns.begin[q + 1]; ++e)
        sum.add(columns.weight[e], lanes_of_pixel<T>(row + columns.cell[e] * job.map_stride[3], item.count));
      sum.put(sums + q * region_lanes);
    }
  }
};

// The same of a map as it is, one channel after another: for boxes that look at less of a map than laying it costs.
template <class T>
struct PlainMap {
  using A = Wide<T>;
  const RegionJob& job;

  void sum_columns(int64_t h, const Entries<A>& columns, const RegionItem& item, A* sums) const {
    const Raw<T>* row = first_cell<T>(job, item) + h * job.map_stride[2];
    for (int64_t lane = 0; lane < item.count; ++lane) {
      const Raw<T>* cells = row + lane * item.map_step * job.map_stride[1];
      for (int64_t q = item.column_begin; q < item.column_end; ++q) {
        A sum = 0;
        for (int64_t e = columns.begin[q]; e < columns.begin[q + 1]; ++e)
          sum += columns.weight[e] * Element<T>::widen(cells[columns.cell[e] * job.map_stride[3]]);
        sums[q * region_lanes + lane] = sum;
      }
    }
  }
};

template <class T, class Map>
void sum_box(const RegionJob& job, const RegionItem& item, int64_t k, const Map& map, Wide<T>* held, Wide<T>* sums) {
  using A = Wide<T>;
  const Entries<A> rows(job, 0, k), columns(job, 1, k);
  const int64_t length = job.places[1] * region_lanes;
  HeldRows have;
  for (int64_t p = item.row_begin; p < item.row_end; ++p) {
    for (int64_t q = item.column_begin; q < item.column_end; ++q) Lanes<A>::all(0).put(sums + q * region_lanes);
    for (int64_t e = rows.begin[p]; e < rows.begin[p + 1]; ++e) {
      const int64_t h = rows.cell[e];
      A* row = held + (h & 1) * length;
      if (!have.has(h)) {
        map.sum_columns(h, columns, item, row);
        have.hold(h);
      }
      for (int64_t q = item.column_begin; q < item.column_end; ++q)
        add_to(sums + q * region_lanes, rows.weight[e], Lanes<A>::of(row + q * region_lanes));
    }
    Raw<T>* to = pooled_row<T>(job, item, k, p);
    for (int64_t q = item.column_begin; q < item.column_end; ++q)
      for (int64_t lane = 0; lane < item.count; ++lane)
        to[lane * job.pooled_stride[1] + q * job.pooled_stride[3]] = Element<T>::narrow(sums[q * region_lanes + lane]);
  }
}

template <class T, class Map>
void sum_boxes(const RegionJob& job, const RegionItem& item, const Map& map, Wide<T>* held, Wide<T>* sums) {
  for (int64_t b = job.first_box[item.n]; b < job.first_box[item.n + 1]; ++b)
    sum_box<T>(job, item, job.box[b], map, held, sums);
}

// How many cells of a map the boxes of a picture look at, each as often as it is read. One by one they cost some times
// as much as in lanes.
constexpr int64_t price_of_one = 4;
template <class A>
int64_t cells_read(const RegionJob& job, const RegionItem& item) {
  int64_t cells = 0;
  for (int64_t b = job.first_box[item.n]; b < job.first_box[item.n + 1]; ++b) {
    const Entries<A> rows(job, 0, job.box[b]), columns(job, 1, job.box[b]);
    cells += (rows.begin[item.row_end] - rows.begin[item.row_begin]) *
             (columns.begin[item.column_end] - columns.begin[item.column_begin]);
  }
  return cells;
}

template <class T>
void sum_regions(const RegionJob& job, int64_t begin, int64_t end) {
  using A = Wide<T>;
  const int64_t length = job.places[1] * region_lanes, cells = job.height * job.width;
  Scratch<A> map(cells * region_lanes), held(2 * length), sums(length);
  for (int64_t i = 0; i < 2 * length; ++i) held[i] = 0;  // lanes without a channel
  for (int64_t i = begin; i < end; ++i) {
    const RegionItem item(job, i);
    if (job.first_box[item.n] == job.first_box[item.n + 1]) continue;
    if (job.map_stride[1] == 1 && item.map_step == 1) {
      sum_boxes<T>(job, item, PixelMap<T>{job}, held.get(), sums.get());
    } else if (price_of_one * cells_read<A>(job, item) < cells) {
      sum_boxes<T>(job, item, PlainMap<T>{job}, held.get(), sums.get());
    } else {
      pack<T>(job, item, map.get());
      sum_boxes<T>(job, item, LaidMap<A>{job, map.get()}, held.get(), sums.get());
    }
  }
}

// The adjoint: what a row of the map gets from its bins is collected, then spread over the columns.
template <class A>
void spread_row(A* row, const Entries<A>& columns, const RegionItem& item, const A* collected) {
  for (int64_t q = item.column_begin; q < item.column_end; ++q) {
    const auto share = Lanes<A>::of(collected + q * region_lanes);
    for (int64_t e = columns.begin[q]; e < columns.begin[q + 1]; ++e)
      add_to(row + columns.cell[e] * region_lanes, columns.weight[e], share);
  }
}

template <class T>
void spread_box(const RegionJob& job, const RegionItem& item, int64_t k, Wide<T>* map, Wide<T>* held, Wide<T>* pooled) {
  using A = Wide<T>;
  const Entries<A> rows(job, 0, k), columns(job, 1, k);
  const int64_t length = job.places[1] * region_lanes;
  HeldRows have;
  const auto flush = [&](int slot) {
    if (have.held(slot) >= 0)
      spread_row(map + have.held(slot) * job.width * region_lanes, columns, item, held + slot * length);
  };
  for (int64_t p = item.row_begin; p < item.row_end; ++p) {
    const Raw<T>* from = pooled_row<T>(job, item, k, p);
    for (int64_t q = item.column_begin; q < item.column_end; ++q)
      for (int64_t lane = 0; lane < region_lanes; ++lane)
        pooled[q * region_lanes + lane] =
            lane < item.count ? Element<T>::widen(from[lane * job.pooled_stride[1] + q * job.pooled_stride[3]]) : A{};
    for (int64_t e = rows.begin[p]; e < rows.begin[p + 1]; ++e) {
      const int64_t h = rows.cell[e];
      const int slot = static_cast<int>(h & 1);
      if (!have.has(h)) {
        flush(slot);
        have.hold(h);
        for (int64_t i = 0; i < length; ++i) held[slot * length + i] = 0;
      }
      for (int64_t q = item.column_begin; q < item.column_end; ++q)
        add_to(held + slot * length + q * region_lanes, rows.weight[e], Lanes<A>::of(pooled + q * region_lanes));
    }
  }
  flush(0);
  flush(1);
}

template <class T>
void spread_regions(const RegionJob& job, int64_t begin, int64_t end) {
  using A = Wide<T>;
  const int64_t length = job.places[1] * region_lanes, cells = job.height * job.width * region_lanes;
  Scratch<A> map(cells), held(2 * length), pooled(length);
  for (int64_t i = begin; i < end; ++i) {
    const RegionItem item(job, i);
    for (int64_t at = 0; at < cells; ++at) map[at] = 0;
    for (int64_t b = job.first_box[item.n]; b < job.first_box[item.n + 1]; ++b)
      spread_box<T>(job, item, job.box[b], map.get(), held.get(), pooled.get());
    unpack<T>(job, item, map.get());
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
