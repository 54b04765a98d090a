// Max pooling with switches, backward: every pooled cell's number goes to the input cell that won.
//
// The sum is gathered at the input cell, over the windows that hold it in row-major order, so it does not depend on
// the number of threads and every input cell is written once.
#pragma once

#include "common/narrow.h"
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

// The same of 16-bit floats, as numbers to add up.
template <class T, int N, class Code, class Cover>
SWITCHGRAD_INLINE Vec<float, N> won_wide(const typename Element<T>::Raw* pooled, const Code* codes, int64_t code,
                                         Cover cover) {
  if constexpr (N == 1) {
    return codes[0] == static_cast<Code>(code) ? Element<T>::widen(pooled[0]) : 0.0f;
  } else {
    const auto lane = widen_codes<int32_t, N, Code>(load<Vec<Code, N>>(codes, cover));
    const auto wanted = broadcast<int32_t, N>(static_cast<int32_t>(static_cast<Code>(code)));
    return select(lane == wanted, load_wide<T, N>(pooled, cover), Vec<float, N>{});
  }
}

// N windows of two cells each, two cells apart, as they are read from memory; written to their 2N cells for any rows of
// the windows. Doubling each number before it is compared takes fewer instructions than zipping after.
template <int N, class Number, class Code>
class Pairs {
 public:
  template <class Cover>
  SWITCHGRAD_INLINE Pairs(const Number* pooled, const Code* codes, Cover cover) {
    const auto numbers = load<Vec<Number, N>>(pooled, cover);
    const auto lanes = widen_codes<Lane, N, Code>(load<Vec<Code, N>>(codes, cover));
    if constexpr (N == 1) {
      numbers_[0] = numbers;
      codes_[0] = lanes;
    } else {
      numbers_[0] = doubled<0, Number, N>(numbers);
      numbers_[1] = doubled<1, Number, N>(numbers);
      codes_[0] = doubled<0, Lane, N>(lanes);
      codes_[1] = doubled<1, Lane, N>(lanes);
    }
  }

  // The row whose two cells have the codes `code` and `code + 1`.
  template <class Cover>
  SWITCHGRAD_INLINE void store_row(Number* to, int64_t code, Cover cover) const {
    const auto left = static_cast<Lane>(static_cast<Code>(code)),
               right = static_cast<Lane>(static_cast<Code>(code + 1));
    if constexpr (N == 1) {
      to[0] = codes_[0] == left ? numbers_[0] : Number{};
      to[1] = codes_[0] == right ? numbers_[0] : Number{};
    } else {
      const auto cells = alternating<Lane, N>(left, right, std::make_integer_sequence<int, N>{});
      store(to, select(codes_[0] == cells, numbers_[0], Vec<Number, N>{}), lower_half(cover, N));
      store(to + N, select(codes_[1] == cells, numbers_[1], Vec<Number, N>{}), upper_half(cover, N));
    }
  }

 private:
  using Lane = typename RouteKinds<Number, Code>::Lane;
  Vec<Number, N> numbers_[2];
  Vec<Lane, N> codes_[2];
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
