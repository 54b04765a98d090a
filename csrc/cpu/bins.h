// The windows of averages over all axes, with the memory that their Bins point to.
#pragma once

#include <cmath>

#include "avg_pool/job.h"
#include "cpu/isa.h"
#include "cpu/windows.h"

namespace switchgrad {

SWITCHGRAD_TABLE(AveragePoolTable, avg_pool_table)

// The windows along one axis, with the memory that Bins points to: one piece for all whole numbers, since calls on
// small maps spend more time on asking for memory than on averages.
class BinList {
 public:
  // A window of Axis; every window counts its cells inside the input, or those inside the padded input as well.
  BinList(const Axis& axis, bool count_padding) : BinList(axis.size, axis.places) {
    bins_.stride = axis.stride;
    bins_.dilation = axis.dilation;
    bins_.kernel = axis.kernel;
    for (int64_t p = 0; p < axis.places; ++p) {
      const int64_t start = axis.start(p), first = axis.first(p), last = axis.last(p);
      lay(p, start, axis.kernel, first, last);
      // Cells beyond the padding at the end, where only ceil mode goes, never count.
      const int64_t room = axis.size + axis.pad_end - start;
      const int64_t padded = room >= axis.span() ? axis.kernel : (room + axis.dilation - 1) / axis.dilation;
      const int64_t counted = count_padding ? padded : last - first;
      factor_[p] = counted > 0 ? static_cast<double>(counted) : 1;
    }
    cover();
  }

  // Adaptive: window p reaches from floor(p H / P) to ceil((p + 1) H / P).
  static BinList adaptive(int64_t size, int64_t places) {
    BinList list(size, places);
    const bool regular = size % places == 0;
    list.bins_.stride = regular ? size / places : 0;
    list.bins_.kernel = 1;
    for (int64_t p = 0; p < places; ++p) {
      const int64_t begin = p * size / places, cells = ((p + 1) * size + places - 1) / places - begin;
      list.lay(p, begin, cells, 0, cells);
      list.factor_[p] = static_cast<double>(cells);
      if (cells > list.bins_.kernel) list.bins_.kernel = cells;
    }
    list.cover();
    return list;
  }

  // Whether every divisor is a power of two, so that its inverse is exact.
  bool invertible() const {
    for (const double f : factor_) {
      int exponent = 0;
      if (std::abs(std::frexp(f, &exponent)) != 0.5 || exponent > 64) return false;
    }
    return true;
  }
  void invert() {
    for (double& f : factor_) f = 1 / f;
  }
  void divide_by(double divisor) {
    for (double& f : factor_) f = divisor;
  }

  Bins bins() const {
    Bins view = bins_;
    view.start = row(0);
    view.cells = row(1);
    view.first = row(2);
    view.last = row(3);
    view.cover_begin = row(4);
    view.cover_end = view.cover_begin + bins_.size;
    view.factor = factor_.data();
    return view;
  }

 private:
  BinList(int64_t size, int64_t places) : numbers_(4 * places + 2 * size), factor_(places) {
    bins_.size = size;
    bins_.places = places;
  }

  const int64_t* row(int64_t i) const { return numbers_.data() + i * bins_.places; }

  void lay(int64_t place, int64_t start, int64_t cells, int64_t first, int64_t last) {
    int64_t* at = numbers_.data() + place;
    for (const int64_t number : {start, cells, first, last}) {
      *at = number;
      at += bins_.places;
    }
  }

  // Windows start and end in order, so those over a cell follow each other.
  void cover() {
    const int64_t *start = row(0), *cells = row(1);
    int64_t* cover_begin = numbers_.data() + 4 * bins_.places;
    int64_t begin = 0, end = 0;
    for (int64_t at = 0; at < bins_.size; ++at) {
      while (begin < bins_.places && start[begin] + (cells[begin] - 1) * bins_.dilation < at) ++begin;
      while (end < bins_.places && start[end] <= at) ++end;
      cover_begin[at] = begin < end ? begin : end;
      cover_begin[bins_.size + at] = end;
      if (end - begin > bins_.most) bins_.most = end - begin;
    }
  }

  Bins bins_;
  Sizes numbers_;
  std::vector<double> factor_;
};

// The windows over all axes of one call. Missing axes have one window of one cell.
struct Plan {
  int64_t spatial;
  Sizes size, places;
  std::vector<BinList> axis;
  bool multiply = false;

  // divisor 0: a window is divided by the number of its cells.
  static Plan over(const Geometry& geometry, const Sizes& spatial, bool count_include_pad, double divisor) {
    const Window window = geometry.over(spatial);
    Plan plan{geometry.dims(), spatial, places_of(window, geometry.dims()), {}};
    for (const Axis& a : window.axis) plan.axis.emplace_back(a, count_include_pad);
    if (divisor != 0)
      for (int i = 0; i < 3; ++i) plan.axis[i].divide_by(i == 2 ? divisor : 1);
    plan.settle_factors();
    return plan;
  }

  static Plan adaptive(const Sizes& spatial, const Sizes& places) {
    const size_t n = places.size();
    if (n < 1 || n > 3 || spatial.size() != n)
      fail("adaptive pooling works on 1 to 3 spatial axes; output_size needs one number for each");
    Plan plan{static_cast<int64_t>(n), spatial, places, {}};
    for (size_t i = 0; i < 3 - n; ++i) plan.axis.push_back(BinList::adaptive(1, 1));
    for (size_t i = 0; i < n; ++i) {
      if (spatial[i] < 1)
        fail("spatial axis " + std::to_string(i) + " of the input has size " + std::to_string(spatial[i]) +
             "; every axis but the batch needs at least 1 cell");
      if (places[i] < 1)
        fail("output_size has an entry of " + std::to_string(places[i]) + "; every entry must be at least 1");
      plan.axis.push_back(BinList::adaptive(spatial[i], places[i]));
    }
    plan.settle_factors();
    return plan;
  }

  AverageJob job() const {
    AverageJob job;
    for (int i = 0; i < 3; ++i) job.bins[i] = axis[i].bins();
    job.multiply = multiply;
    return job;
  }

 private:
  void settle_factors() {
    for (const BinList& list : axis)
      if (!list.invertible()) return;
    multiply = true;
    for (BinList& list : axis) list.invert();
  }
};

inline int64_t product(const Sizes& sizes) {
  int64_t cells = 1;
  for (const int64_t size : sizes) cells *= size;
  return cells;
}

}  // namespace switchgrad
