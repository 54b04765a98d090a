// Max pooling with switches, forward: values and the winner's row-major offset in its window.
//
// A window's maximum is taken first along its rows, then over its rows: because row-major order compares the outer
// axes first, the winner of the row winners is the winner of the window, for ties (first) and for NaN (last) alike.
// Padding is -infinity and never wins; a window that holds no input cell gives -infinity and the code NONE.
#pragma once

#include "common/element.h"
#include "common/table.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int64_t none = -1;  // 255 in a byte

template <class T, class Code>
struct Kinds {
  using Raw = typename Element<T>::Raw;
  // A code's lane is as wide as its value's lane, so that one mask serves both; only single lanes may differ.
  using Lane = std::conditional_t<(sizeof(Code) > sizeof(Raw)), Int<Code>, Int<Raw>>;
  static constexpr int lanes = worth_lanes<Raw, Code> || (sizeof(Code) == 1 && std::is_integral_v<T>)
                                   ? vector_bytes / static_cast<int>(sizeof(Raw))
                                   : 1;
};

// The best cell so far, N windows side by side.
template <class T, class Code, int N>
struct Best {
  using Raw = typename Kinds<T, Code>::Raw;
  using Lane = typename Kinds<T, Code>::Lane;
  Vec<Raw, N> value;
  Vec<Raw, N> key;
  Vec<Lane, N> code;

  SWITCHGRAD_INLINE static Best of(Vec<Raw, N> value, Vec<Lane, N> code) {
    return {value, Element<T>::key(value), code};
  }
  SWITCHGRAD_INLINE void meet(const Best& next) {
    const auto wins = Element<T>::beats(next.key, key);
    value = select(wins, next.value, value);
    key = select(wins, next.key, key);
    code = select(wins, next.code, code);
  }
  template <class Cover = Whole>
  SWITCHGRAD_INLINE void write(Raw* values, Code* codes, int64_t at, Cover cover = {}) const {
    if constexpr (is_rectified<T>) {
      // A ReLU commutes with the maximum, so it acts once a window and not once a cell.
      const auto dead = key <= Vec<Raw, N>{};
      const auto nobody = broadcast<Lane, N>(static_cast<Lane>(static_cast<Code>(none)));
      store(values + at, select(dead, Vec<Raw, N>{}, value), cover);
      if (codes) store(codes + at, narrow_codes<Code, N>(select(dead, nobody, code)), cover);
    } else {
      store(values + at, value, cover);
      if (codes) store(codes + at, narrow_codes<Code, N>(code), cover);
    }
  }
};

// Windows without any input cell (dilation can hop over a small input).
template <class T, class Code>
void write_none(typename Kinds<T, Code>::Raw* values, Code* codes, int64_t at) {
  values[at] = Element<T>::lowest();
  if (codes) codes[at] = static_cast<Code>(none);
}

// Where output row `item` is written.
template <class T, class Code>
struct OutputRow {
  typename Kinds<T, Code>::Raw* values;
  Code* codes;
  OutputRow(const PoolJob& job, int64_t item, int64_t length)
      : values(static_cast<typename Kinds<T, Code>::Raw*>(job.values) + item * length),
        codes(job.codes ? static_cast<Code*>(job.codes) + item * length : nullptr) {}
};

// The rows of the input in one window, in row-major order. What an inner window has is laid out once; a window at the
// border keeps a part of it.
struct RowList {
  explicit RowList(int64_t most) : where(most), offset(most), depth_cell(most), height(most) {}
  int64_t count = 0;
  Scratch<int64_t> where;       // from the window's first row, in elements
  Scratch<int64_t> offset;      // of the row's first cell in the window
  Scratch<int64_t> depth_cell;  // in the window
  Scratch<int64_t> height;      // from the window's first row, in rows

  void add(int64_t where_, int64_t offset_, int64_t depth_cell_, int64_t height_) {
    where[count] = where_;
    offset[count] = offset_;
    depth_cell[count] = depth_cell_;
    height[count++] = height_;
  }
};

class WindowRows {
 public:
  explicit WindowRows(const PoolJob& job)
      : job_(job),
        inner_(job.window.axis[0].kernel * job.window.axis[1].kernel),
        border_(job.window.axis[0].kernel * job.window.axis[1].kernel) {
    fill(inner_, 0, job.window.axis[0].kernel, 0, job.window.axis[1].kernel);
  }

  const RowList& at(int64_t od, int64_t p) {
    const Axis &z = job_.window.axis[0], &y = job_.window.axis[1];
    const int64_t a = z.first(od), a_last = z.last(od), r = y.first(p), r_last = y.last(p);
    if (a_last - a == z.kernel && r_last - r == y.kernel) return inner_;
    fill(border_, a, a_last, r, r_last);
    return border_;
  }

 private:
  void fill(RowList& rows, int64_t a_first, int64_t a_last, int64_t r_first, int64_t r_last) const {
    const Axis &z = job_.window.axis[0], &y = job_.window.axis[1];
    rows.count = 0;
    for (int64_t a = a_first; a < a_last; ++a)
      for (int64_t r = r_first; r < r_last; ++r)
        rows.add(a * z.dilation * job_.input_stride[2] + r * y.dilation * job_.input_stride[3],
                 (a * y.kernel + r) * job_.window.axis[2].kernel, a, r * y.dilation);
  }

  const PoolJob& job_;
  RowList inner_, border_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
