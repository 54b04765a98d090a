// Max pooling with switches, backward: every pooled cell's number goes to the input cell that won.
//
// The sum is gathered at the input cell, over the windows that hold it in row-major order, so it does not depend on
// the number of threads and every input cell is written once.
#pragma once

#include "common/element.h"
#include "common/table.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// For each input cell along an axis: the windows that hold it, in order, and which of their cells it is.
struct Cover {
  int64_t place;
  int64_t cell;
};
class Covering {
 public:
  explicit Covering(const Axis& axis) : ends_(axis.size + 1), covers_(count(axis)) {
    int64_t at = 0;
    ends_[0] = 0;
    for (int64_t i = 0; i < axis.size; ++i) {
      for (int64_t place = axis.covering_begin(i); place < axis.covering_end(i); ++place) {
        const int64_t cell = axis.cell(place, i);
        if (cell >= 0) covers_[at++] = {place, cell};
      }
      ends_[i + 1] = at;
    }
  }
  const Cover* begin(int64_t at) const { return covers_.get() + ends_[at]; }
  const Cover* end(int64_t at) const { return covers_.get() + ends_[at + 1]; }
  int64_t size(int64_t at) const { return ends_[at + 1] - ends_[at]; }
  static int64_t most(const Axis& axis) { return (axis.span() + axis.stride - 1) / axis.stride; }

 private:
  static int64_t count(const Axis& axis) {
    const int64_t by_places = axis.places * axis.kernel, by_cells = axis.size * most(axis);
    return by_places < by_cells ? by_places : by_cells;
  }
  Scratch<int64_t> ends_;
  Scratch<Cover> covers_;
};

template <class Number, class Code>
struct RouteKinds {
  // As in the forward kernels: a code's lane is as wide as its number's lane, single lanes excepted.
  using Lane = std::conditional_t<(sizeof(Code) > sizeof(Number)), Int<Code>, Int<Number>>;
  static constexpr int lanes = worth_lanes<Number, Code> ? vector_bytes / static_cast<int>(sizeof(Number)) : 1;
};

// The pooled numbers whose code says that this cell won, 0 elsewhere.
template <int N, class Number, class Code, class Cover = Whole>
SWITCHGRAD_INLINE Vec<Number, N> won(const Number* pooled, const Code* codes, int64_t code, Cover cover = {}) {
  using Lane = typename RouteKinds<Number, Code>::Lane;
  const auto lane = widen_codes<Lane, N, Code>(load<Vec<Code, N>>(codes, cover));
  return select(lane == broadcast<Lane, N>(static_cast<Lane>(static_cast<Code>(code))),
                load<Vec<Number, N>>(pooled, cover), Vec<Number, N>{});
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
