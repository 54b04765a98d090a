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

  static Best of(Vec<Raw, N> value, Vec<Lane, N> code) { return {value, Element<T>::key(value), code}; }
  void meet(const Best& next) {
    const auto wins = Element<T>::beats(next.key, key);
    value = select(wins, next.value, value);
    key = select(wins, next.key, key);
    code = select(wins, next.code, code);
  }
  void write(Raw* values, Code* codes, int64_t at) const {
    store(values + at, value);
    if (codes) store(codes + at, convert<Code, N>(code));
  }
};

// ---- planar: rows of neighbouring pixels -------------------------------------------------------------------------

// Row maxima along the width for any kernel, stride, dilation and padding, kept for the next windows that need them.
template <class T, class Code, int N>
class RowMaxima {
 public:
  using Raw = typename Kinds<T, Code>::Raw;
  using Lane = typename Kinds<T, Code>::Lane;

  explicit RowMaxima(const Window& window)
      : width_(window.axis[2]),
        span_(window.axis[1].span()),
        slots_(window.axis[0].kernel * span_),
        phase_count_(width_.stride < width_.span() ? width_.stride : width_.span()),
        phase_length_(width_.places + (width_.kernel - 1) * width_.dilation / width_.stride + N),
        row_length_(width_.places + N),
        phases_(phase_count_ * phase_length_),
        values_(slots_ * row_length_),
        codes_(slots_ * row_length_),
        first_(row_length_),
        held_(slots_) {
    for (int64_t q = 0; q < row_length_; ++q) first_[q] = q < width_.places ? static_cast<Lane>(width_.first(q)) : 0;
    for (int64_t i = 0; i < phase_count_ * phase_length_; ++i) phases_[i] = Element<T>::lowest();
    forget();
  }

  void forget() {
    for (int64_t i = 0; i < slots_; ++i) held_[i] = -1;
  }

  // The slot that holds the maxima of input row h, which lies in depth cell a of the window.
  int64_t slot(int64_t a, int64_t h, const Raw* row) {
    const int64_t at = a * span_ + h % span_;
    if (held_[at] != h) {
      part(row);
      reduce(values_.get() + at * row_length_, codes_.get() + at * row_length_);
      held_[at] = h;
    }
    return at;
  }

  // The maxima of windows q .. q + N - 1 in a slot, their codes counted from `offset`.
  Best<T, Code, N> at(int64_t slot, int64_t offset, int64_t q) const {
    const auto code = load<Vec<Lane, N>>(codes_.get() + slot * row_length_ + q);
    return Best<T, Code, N>::of(load<Vec<Raw, N>>(values_.get() + slot * row_length_ + q),
                                static_cast<Vec<Lane, N>>(code + broadcast<Lane, N>(static_cast<Lane>(offset))));
  }

 private:
  // Parts the padded row into its residues modulo the stride, so that every window cell is read at unit stride.
  void part(const Raw* row) {
    if (width_.stride == 2 && phase_count_ == 2) return part_pairs(row);
    const int64_t stride = width_.stride, pad = width_.pad_begin;
    for (int64_t phase = 0; phase < phase_count_; ++phase) {
      Raw* to = phases_.get() + phase * phase_length_;
      const int64_t from = pad > phase ? (pad - phase + stride - 1) / stride : 0;
      const int64_t cells = width_.size + pad - phase;
      const int64_t reach = cells <= 0 ? 0 : (cells + stride - 1) / stride;
      const int64_t until = reach < phase_length_ ? reach : phase_length_;
      if (stride == 1) {
        if (until > from) std::memcpy(to + from, row + from - pad, static_cast<size_t>(until - from) * sizeof(Raw));
      } else {
        for (int64_t i = from; i < until; ++i) to[i] = row[i * stride + phase - pad];
      }
    }
  }

  void part_pairs(const Raw* row) {
    Raw* even = phases_.get();
    Raw* odd = even + phase_length_;
    int64_t w = 0, at = width_.pad_begin / 2;
    if (width_.pad_begin % 2 != 0) odd[at++] = row[w++];
    const int64_t pairs_in = (width_.size - w) / 2;
    const int64_t pairs = pairs_in < phase_length_ - at ? pairs_in : phase_length_ - at;
    const auto part_block = [&](auto lanes, int64_t i) {
      constexpr int M = decltype(lanes)::value;
      Vec<Raw, M> left, right;
      load_pairs<Raw, M>(row + w + 2 * i, left, right);
      store(even + at + i, left);
      store(odd + at + i, right);
    };
    if (pairs >= N) {
      blocks<N>(pairs, [&](int64_t i) { part_block(std::integral_constant<int, N>{}, i); });
    } else {
      for (int64_t i = 0; i < pairs; ++i) part_block(std::integral_constant<int, 1>{}, i);
    }
    if (w + 2 * pairs < width_.size && at + pairs < phase_length_) even[at + pairs] = row[w + 2 * pairs];
  }

  void reduce(Raw* values, Lane* codes) {
    for (int64_t q = 0; q < width_.places; q += N) {
      auto best = Best<T, Code, N>::of(load<Vec<Raw, N>>(phases_.get() + q), load<Vec<Lane, N>>(first_.get() + q));
      int64_t phase = 0, shift = 0;
      for (int64_t s = 1; s < width_.kernel; ++s) {
        for (phase += width_.dilation; phase >= width_.stride; phase -= width_.stride) ++shift;
        const auto value = load<Vec<Raw, N>>(phases_.get() + phase * phase_length_ + shift + q);
        best.meet(Best<T, Code, N>::of(value, broadcast<Lane, N>(static_cast<Lane>(s))));
      }
      store(values + q, best.value);
      store(codes + q, best.code);
    }
  }

  Axis width_;
  int64_t span_, slots_, phase_count_, phase_length_, row_length_;
  Scratch<Raw> phases_, values_;
  Scratch<Lane> codes_, first_;
  Scratch<int64_t> held_;
};

// Windows without any input cell (dilation can hop over a small input).
template <class T, class Code>
void write_none(typename Kinds<T, Code>::Raw* values, Code* codes, int64_t at) {
  values[at] = Element<T>::lowest();
  if (codes) codes[at] = static_cast<Code>(none);
}

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

// Calls body(item, rows, first_row, h) for each output row begin .. end - 1: the rows of its windows, counted from
// first_row, which is input row h (outside the input where the window starts in the padding). new_volume() is called
// before each new plane or depth.
template <class Raw, class NewVolume, class F>
void for_each_output_row(const PoolJob& job, int64_t begin, int64_t end, NewVolume&& new_volume, F&& body) {
  const Axis &z = job.window.axis[0], &y = job.window.axis[1];
  WindowRows rows(job);
  for (int64_t item = begin; item < end;) {
    const int64_t volume = item / y.places, od = volume % z.places, plane = volume / z.places;
    const Raw* image = static_cast<const Raw*>(job.input) + plane / job.channels * job.input_stride[0] +
                       plane % job.channels * job.input_stride[1] + z.start(od) * job.input_stride[2];
    const int64_t until = (volume + 1) * y.places < end ? (volume + 1) * y.places : end;
    new_volume();
    for (int64_t p = item - volume * y.places; item < until; ++item, ++p)
      body(item, rows.at(od, p), image + y.start(p) * job.input_stride[3], y.start(p));
  }
}

// Two-cell windows two cells apart need no scratch: neighbours are parted in registers.
template <class T, class Code, int N>
Best<T, Code, N> better_of_pair(const typename Kinds<T, Code>::Raw* row, int64_t offset) {
  using Raw = typename Kinds<T, Code>::Raw;
  using Lane = typename Kinds<T, Code>::Lane;
  Vec<Raw, N> left, right;
  load_pairs<Raw, N>(row, left, right);
  auto pair = Best<T, Code, N>::of(left, broadcast<Lane, N>(static_cast<Lane>(offset)));
  pair.meet(Best<T, Code, N>::of(right, broadcast<Lane, N>(static_cast<Lane>(offset + 1))));
  return pair;
}

template <class T, class Code, int N>
void pool_pairs(const RowList& rows, const typename Kinds<T, Code>::Raw* first, int64_t whole, int64_t places,
                typename Kinds<T, Code>::Raw* values, Code* codes) {
  using Lane = typename Kinds<T, Code>::Lane;
  const int64_t* where = rows.where.get();
  const int64_t* offset = rows.offset.get();
  if (rows.count == 2) {
    const auto *upper = first + where[0], *lower = first + where[1];
    const int64_t upper_offset = offset[0], lower_offset = offset[1];
    blocks<N>(whole, [&](int64_t q) {
      auto best = better_of_pair<T, Code, N>(upper + 2 * q, upper_offset);
      best.meet(better_of_pair<T, Code, N>(lower + 2 * q, lower_offset));
      best.write(values, codes, q);
    });
  } else {
    blocks<N>(whole, [&](int64_t q) {
      auto best = better_of_pair<T, Code, N>(first + where[0] + 2 * q, offset[0]);
      for (int64_t i = 1; i < rows.count; ++i)
        best.meet(better_of_pair<T, Code, N>(first + where[i] + 2 * q, offset[i]));
      best.write(values, codes, q);
    });
  }
  for (int64_t q = whole; q < places; ++q) {  // the last window of an odd row has one column
    auto best = Best<T, Code, 1>::of(first[where[0] + 2 * q], static_cast<Lane>(offset[0]));
    for (int64_t i = 1; i < rows.count; ++i)
      best.meet(Best<T, Code, 1>::of(first[where[i] + 2 * q], static_cast<Lane>(offset[i])));
    best.write(values, codes, q);
  }
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

template <class T, class Code, int N>
void pool_planar_pairs(const PoolJob& job, int64_t whole, int64_t begin, int64_t end) {
  using Raw = typename Kinds<T, Code>::Raw;
  const int64_t places = job.window.axis[2].places;
  const auto body = [&](int64_t item, const RowList& rows, const Raw* first, int64_t) {
    const OutputRow<T, Code> to(job, item, places);
    if (rows.count > 0) return pool_pairs<T, Code, N>(rows, first, whole, places, to.values, to.codes);
    for (int64_t q = 0; q < places; ++q) write_none<T, Code>(to.values, to.codes, q);
  };
  for_each_output_row<Raw>(job, begin, end, [] {}, body);
}

template <class T, class Code, int N>
void pool_planar_any(const PoolJob& job, int64_t begin, int64_t end) {
  using Raw = typename Kinds<T, Code>::Raw;
  const Axis& width = job.window.axis[2];
  RowMaxima<T, Code, N> maxima(job.window);
  Scratch<int64_t> slots(job.window.axis[0].kernel * job.window.axis[1].kernel);
  const auto body = [&](int64_t item, const RowList& rows, const Raw* first, int64_t h) {
    const OutputRow<T, Code> to(job, item, width.places);
    for (int64_t i = 0; i < rows.count; ++i)
      slots[i] = maxima.slot(rows.depth_cell[i], h + rows.height[i], first + rows.where[i]);
    if (rows.count > 0)
      blocks<N>(width.places, [&](int64_t q) {
        auto best = maxima.at(slots[0], rows.offset[0], q);
        for (int64_t i = 1; i < rows.count; ++i) best.meet(maxima.at(slots[i], rows.offset[i], q));
        best.write(to.values, to.codes, q);
      });
    for (int64_t q = 0; q < width.places; ++q) {
      if (rows.count > 0 && width.start(q) >= 0) break;  // this window and the next ones hold their first cell
      if (rows.count == 0 || width.first(q) >= width.last(q)) write_none<T, Code>(to.values, to.codes, q);
    }
  };
  for_each_output_row<Raw>(job, begin, end, [&] { maxima.forget(); }, body);
}

template <class T, class Code>
void pool_planar(const PoolJob& job, int64_t begin, int64_t end) {
  const Axis& width = job.window.axis[2];
  const bool pairs = width.kernel == 2 && width.stride == 2 && width.dilation == 1 && width.pad_begin == 0;
  const int64_t whole = width.size / 2 < width.places ? width.size / 2 : width.places;
  with_lanes<Kinds<T, Code>::lanes>(pairs ? whole : width.places, [&](auto lanes) {
    constexpr int N = decltype(lanes)::value;
    if (pairs) {
      pool_planar_pairs<T, Code, N>(job, whole, begin, end);
    } else {
      pool_planar_any<T, Code, N>(job, begin, end);
    }
  });
}

// ---- channels last: pixels of neighbouring channels --------------------------------------------------------------

// The pixels of one window in row-major order, counted from the window's first pixel; like WindowRows.
template <class Lane>
struct PixelList {
  explicit PixelList(int64_t most) : where(most), offset(most) {}
  int64_t count = 0;
  Scratch<int64_t> where;
  Scratch<Lane> offset;
};

template <class Lane>
class WindowPixels {
 public:
  explicit WindowPixels(const PoolJob& job)
      : rows_(job),
        x_(job.window.axis[2]),
        step_(job.input_stride[4]),
        inner_(job.window.cells()),
        border_(job.window.cells()) {}

  // Before a row of windows: which input rows they have.
  void go_to(int64_t od, int64_t p) {
    rows_of_row_ = &rows_.at(od, p);
    fill(inner_, 0, x_.kernel);
  }
  const PixelList<Lane>& at(int64_t q) {
    const int64_t s = x_.first(q), s_last = x_.last(q);
    if (s_last - s == x_.kernel) return inner_;
    fill(border_, s, s_last);
    return border_;
  }

 private:
  void fill(PixelList<Lane>& pixels, int64_t s_first, int64_t s_last) const {
    pixels.count = 0;
    for (int64_t i = 0; i < rows_of_row_->count; ++i)
      for (int64_t s = s_first; s < s_last; ++s) {
        pixels.where[pixels.count] = rows_of_row_->where[i] + s * x_.dilation * step_;
        pixels.offset[pixels.count++] = static_cast<Lane>(rows_of_row_->offset[i] + s);
      }
  }

  WindowRows rows_;
  const RowList* rows_of_row_ = nullptr;
  Axis x_;
  int64_t step_;
  PixelList<Lane> inner_, border_;
};

// One output pixel, all its channels.
template <class T, class Code, int N, class Pixels>
void pool_pixel(const typename Kinds<T, Code>::Raw* first, const Pixels& pixels, int64_t channels,
                const OutputRow<T, Code>& to) {
  using Raw = typename Kinds<T, Code>::Raw;
  using Lane = typename Kinds<T, Code>::Lane;
  const int64_t count = pixels.count;
  const int64_t* where = pixels.where.get();
  const Lane* offset = pixels.offset.get();
  if (count == 0) {
    for (int64_t c = 0; c < channels; ++c) write_none<T, Code>(to.values, to.codes, c);
    return;
  }
  const auto candidate = [&](int64_t i, int64_t c) {
    return Best<T, Code, N>::of(load<Vec<Raw, N>>(first + where[i] + c), broadcast<Lane, N>(offset[i]));
  };
  blocks<N>(channels, [&](int64_t c) {
    auto best = candidate(0, c);
    for (int64_t i = 1; i < count; ++i) best.meet(candidate(i, c));
    best.write(to.values, to.codes, c);
  });
}

template <class T, class Code, int N>
void pool_channels_last_lanes(const PoolJob& job, int64_t begin, int64_t end) {
  using Raw = typename Kinds<T, Code>::Raw;
  const Axis &z = job.window.axis[0], &y = job.window.axis[1], &x = job.window.axis[2];
  WindowPixels<typename Kinds<T, Code>::Lane> pixels(job);
  for (int64_t item = begin; item < end;) {
    const int64_t row = item / x.places, p = row % y.places, volume = row / y.places, od = volume % z.places;
    const Raw* first = static_cast<const Raw*>(job.input) + volume / z.places * job.input_stride[0] +
                       z.start(od) * job.input_stride[2] + y.start(p) * job.input_stride[3];
    const int64_t until = (row + 1) * x.places < end ? (row + 1) * x.places : end;
    pixels.go_to(od, p);
    for (int64_t q = item - row * x.places; item < until; ++item, ++q)
      pool_pixel<T, Code, N>(first + x.start(q) * job.input_stride[4], pixels.at(q), job.channels,
                             OutputRow<T, Code>(job, item, job.channels));
  }
}

template <class T, class Code>
void pool_channels_last(const PoolJob& job, int64_t begin, int64_t end) {
  with_lanes<Kinds<T, Code>::lanes>(
      job.channels, [&](auto lanes) { pool_channels_last_lanes<T, Code, decltype(lanes)::value>(job, begin, end); });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
