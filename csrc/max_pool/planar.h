// Max pooling over rows of neighbouring pixels (NCHW, its 1-D and 3-D kin, and crops of them).
#pragma once

#include "max_pool/best.h"
#include "max_pool/whole.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

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
  SWITCHGRAD_INLINE Best<T, Code, N> at(int64_t slot, int64_t offset, int64_t q) const {
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
    cascade<N>(0, pairs, [&](auto lanes, int64_t i, auto cover) {
      constexpr int M = decltype(lanes)::value;
      Vec<Raw, M> left, right;
      load_pairs<Raw, M>(row + w + 2 * i, left, right, cover);
      store(even + at + i, left, cover);
      store(odd + at + i, right, cover);
    });
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
template <class T, class Code, int N, class Cover>
SWITCHGRAD_INLINE Best<T, Code, N> better_of_pair(const typename Kinds<T, Code>::Raw* row, int64_t offset,
                                                  Cover cover) {
  using Raw = typename Kinds<T, Code>::Raw;
  using Lane = typename Kinds<T, Code>::Lane;
  Vec<Raw, N> left, right;
  load_pairs<Raw, N>(row, left, right, cover);
  auto pair = Best<T, Code, N>::of(left, broadcast<Lane, N>(static_cast<Lane>(offset)));
  pair.meet(Best<T, Code, N>::of(right, broadcast<Lane, N>(static_cast<Lane>(offset + 1))));
  return pair;
}

template <class T, class Code, int N>
void pool_pairs(const RowList& rows, const typename Kinds<T, Code>::Raw* first, int64_t whole, int64_t in_blocks,
                int64_t places, typename Kinds<T, Code>::Raw* values, Code* codes) {
  using Lane = typename Kinds<T, Code>::Lane;
  const int64_t* where = rows.where.get();
  const int64_t* offset = rows.offset.get();
  if (rows.count == 2) {
    const auto *upper = first + where[0], *lower = first + where[1];
    const int64_t upper_offset = offset[0], lower_offset = offset[1];
    blocks<N>(in_blocks, [&](int64_t q, auto cover) {
      fetch_ahead<4 * N * sizeof(*upper)>(upper + 2 * q);
      auto best = better_of_pair<T, Code, N>(upper + 2 * q, upper_offset, cover);
      best.meet(better_of_pair<T, Code, N>(lower + 2 * q, lower_offset, cover));
      best.write(values, codes, q, cover);
    });
  } else {
    blocks<N>(in_blocks, [&](int64_t q, auto cover) {
      auto best = better_of_pair<T, Code, N>(first + where[0] + 2 * q, offset[0], cover);
      for (int64_t i = 1; i < rows.count; ++i)
        best.meet(better_of_pair<T, Code, N>(first + where[i] + 2 * q, offset[i], cover));
      best.write(values, codes, q, cover);
    });
  }
  for (int64_t q = whole; q < places; ++q) {  // the last window of an odd row has one column
    auto best = Best<T, Code, 1>::of(first[where[0] + 2 * q], static_cast<Lane>(offset[0]));
    for (int64_t i = 1; i < rows.count; ++i)
      best.meet(Best<T, Code, 1>::of(first[where[i] + 2 * q], static_cast<Lane>(offset[i])));
    best.write(values, codes, q);
  }
}

// Whether every output row starts lower in memory than the one before: a contiguous tensor, no padding above or below.
inline bool descends(const PoolJob& job) {
  const Axis *z = &job.window.axis[0], *y = &job.window.axis[1], *x = &job.window.axis[2];
  const int64_t row = x->size, slice = y->size * row, plane = z->size * slice;
  return (y->size == 1 || job.input_stride[3] == row) && (z->size == 1 || job.input_stride[2] == slice) &&
         (job.channels == 1 || job.input_stride[1] == plane) &&
         (job.batch == 1 || job.input_stride[0] == plane * job.channels) &&
         y->pad_begin + y->pad_end + z->pad_begin + z->pad_end == 0;
}

template <class T, class Code, int N>
void pool_planar_pairs(const PoolJob& job, int64_t whole, int64_t begin, int64_t end) {
  using Raw = typename Kinds<T, Code>::Raw;
  const int64_t places = job.window.axis[2].places;
  // A row may spill while enough rows follow it: in the input for reading 2 N cells, in this task for writing N.
  const int64_t reads = 2 * N / job.window.axis[2].size, writes = N / places;
  const int64_t spill_end = descends(job) ? end - (reads > writes ? reads : writes) - 2 : begin;
  const auto body = [&](int64_t item, const RowList& rows, const Raw* first, int64_t) {
    const OutputRow<T, Code> to(job, item, places);
    const int64_t in_blocks = item < spill_end ? spilled<N>(whole) : whole;
    if (rows.count > 0) return pool_pairs<T, Code, N>(rows, first, whole, in_blocks, places, to.values, to.codes);
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
      blocks<N>(width.places, [&](int64_t q, auto cover) {
        auto best = maxima.at(slots[0], rows.offset[0], q);
        for (int64_t i = 1; i < rows.count; ++i) best.meet(maxima.at(slots[i], rows.offset[i], q));
        best.write(to.values, to.codes, q, cover);
      });
    for (int64_t q = 0; q < width.places; ++q) {
      if (rows.count > 0 && width.start(q) >= 0) break;  // this window and the next ones hold their first cell
      if (rows.count == 0 || width.first(q) >= width.last(q)) write_none<T, Code>(to.values, to.codes, q);
    }
  };
  for_each_output_row<Raw>(job, begin, end, [&] { maxima.forget(); }, body);
}

template <class T, class Code>
void pool_planar_runs(const PoolJob& job, int64_t begin, int64_t end) {
  using Raw = typename Kinds<T, Code>::Raw;
  const Axis& width = job.window.axis[2];
  const auto body = [&](int64_t item, const RowList& rows, const Raw* row, int64_t) {
    const OutputRow<T, Code> to(job, item, width.places);
    if (rows.count > 0) return pool_runs<T, Code>(width, row, to);
    for (int64_t q = 0; q < width.places; ++q) write_none<T, Code>(to.values, to.codes, q);
  };
  for_each_output_row<Raw>(job, begin, end, [] {}, body);
}

template <class T, class Code>
void pool_planar(const PoolJob& job, int64_t begin, int64_t end) {
  if (pools_whole_maps(job)) return pool_maps<T, Code>(job, begin, end);
  if (pools_runs(job, Kinds<T, Code>::lanes)) return pool_planar_runs<T, Code>(job, begin, end);
  const Axis& width = job.window.axis[2];
  const bool pairs = width.pairs();
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

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
