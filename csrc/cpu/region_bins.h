// What the bins of boxes hold along one axis: cells from a first to a last, or cells with weights. The formulas of
// ops/regions in the same steps and the same precision, so that the reference and the kernels round alike.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "common/window.h"
#include "regions/job.h"

namespace switchgrad {

// Boxes along one axis: where each starts and how long it is, in cells.
template <class A>
struct Extents {
  std::vector<A> start, length;
};

struct Bounds {
  std::vector<int32_t> first, last;

  BinBounds view() const { return {first.data(), last.data()}; }
};

template <class A>
struct Weights {
  std::vector<int64_t> begin{0};
  std::vector<int32_t> cell;
  std::vector<A> weight;

  BinWeights view() const { return {begin.data(), cell.data(), weight.data()}; }

  // Adds to the weight of a cell of the bin that is being made; cells come in rising order, or two back at most.
  void add(int64_t at, A share) {
    if (share == 0) return;
    for (auto e = static_cast<int64_t>(cell.size()) - 1; e >= begin.back() && cell[e] >= at; --e)
      if (cell[e] == at) {
        weight[e] += share;
        return;
      }
    cell.push_back(static_cast<int32_t>(at));
    weight.push_back(share);
  }
  void close() { begin.push_back(static_cast<int64_t>(cell.size())); }
};

template <class A>
int32_t cut(A x, int64_t size) {
  return x > 0 ? (x < static_cast<A>(size) ? static_cast<int32_t>(x) : static_cast<int32_t>(size)) : 0;
}

// Bounds rounded outwards; `from_zero` rounds before the start is added (RoI pooling), else after (position-sensitive).
template <class A>
Bounds bounds_of(const Extents<A>& boxes, int64_t places, int64_t size, bool from_zero) {
  Bounds bounds;
  for (size_t k = 0; k < boxes.start.size(); ++k) {
    const A start = boxes.start[k], each = boxes.length[k] / static_cast<A>(places);
    for (int64_t p = 0; p < places; ++p) {
      const A low = static_cast<A>(p) * each, high = static_cast<A>(p + 1) * each;
      bounds.first.push_back(cut(from_zero ? std::floor(low) + start : std::floor(low + start), size));
      bounds.last.push_back(cut(from_zero ? std::ceil(high) + start : std::ceil(high + start), size));
    }
  }
  return bounds;
}

template <class A>
Weights<A> means_of(const Bounds& bounds, int64_t places) {
  Weights<A> weights;
  for (size_t i = 0; i < bounds.first.size(); ++i) {
    for (int64_t at = bounds.first[i]; at < bounds.last[i]; ++at)
      weights.add(at, A{1} / static_cast<A>(bounds.last[i] - bounds.first[i]));
    weights.close();
  }
  (void)places;
  return weights;
}

// Where sample i of bin p lies, interpolated between two cells.
template <class A>
void add_sample(Weights<A>& weights, A at, A share, int64_t size) {
  if (!(at >= -1 && at <= static_cast<A>(size))) return;
  const A last = static_cast<A>(size - 1), inside = at > 0 ? (at < last ? at : last) : 0;
  const A low = std::floor(inside), upper = inside - low;
  const auto cell = static_cast<int64_t>(low);
  weights.add(cell, share * (1 - upper));
  weights.add(cell + 1 < size ? cell + 1 : size - 1, share * upper);
}

template <class A>
Weights<A> samples_of(const Extents<A>& boxes, int64_t places, int64_t sampling_ratio, int64_t size) {
  constexpr A limit = 1 << 20;
  Weights<A> weights;
  for (size_t k = 0; k < boxes.start.size(); ++k) {
    const A each = boxes.length[k] / static_cast<A>(places);
    const A counts = sampling_ratio > 0 ? static_cast<A>(sampling_ratio) : std::ceil(each);
    if (counts > limit)
      fail("box " + std::to_string(k) +
           " asks for more than 2^20 samples a bin; clip it to the picture, or give a "
           "smaller sampling_ratio");
    const auto count = counts >= 1 ? static_cast<int64_t>(counts) : 0;
    const A share = A{1} / (counts > 1 ? counts : A{1});
    for (int64_t p = 0; p < places; ++p) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t sample = each < 0 ? count - 1 - i : i;  // a box that is inside out: still in rising order
        const A at = boxes.start[k] + (static_cast<A>(p) + (static_cast<A>(sample) + A{0.5}) / counts) * each;
        add_sample(weights, at, share, size);
      }
      weights.close();
    }
  }
  return weights;
}

}  // namespace switchgrad
