// Max pooling over pixels of neighbouring channels (NHWC and NDHWC).
#pragma once

#include "max_pool/best_line.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

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
  const auto candidate = [&](int64_t i, int64_t c, auto cover) {
    fetch_ahead<N * sizeof(Raw)>(first + where[i] + c);
    return Best<T, Code, N>::of(held(load<Vec<Raw, N>>(first + where[i] + c, cover)), broadcast<Lane, N>(offset[i]));
  };
  blocks<N>(channels, [&](int64_t c, auto cover) {
    auto best = candidate(0, c, cover);
    for (int64_t i = 1; i < count; ++i) best.meet(candidate(i, c, cover));
    best.write(to.values, to.codes, c, cover);
  });
}

template <class T, class Code, int N>
void pool_channels_last_lanes(const PoolJob& job, int64_t begin, int64_t end) {
  using Raw = typename Kinds<T, Code>::Raw;
  const Axis &z = job.window.axis[0], &y = job.window.axis[1], &x = job.window.axis[2];
  WindowPixels<typename Kinds<T, Code>::Lane> pixels(job);
  const BestLine<T, Code, N> line(job.channels);
  const bool by_line = BestLine<T, Code, N>::serves(job.window.cells(), job.channels);
  for (int64_t item = begin; item < end;) {
    const int64_t row = item / x.places, p = row % y.places, volume = row / y.places, od = volume % z.places;
    const Raw* first = static_cast<const Raw*>(job.input) + volume / z.places * job.input_stride[0] +
                       z.start(od) * job.input_stride[2] + y.start(p) * job.input_stride[3];
    const int64_t until = (row + 1) * x.places < end ? (row + 1) * x.places : end;
    pixels.go_to(od, p);
    for (int64_t q = item - row * x.places; item < until; ++item, ++q) {
      const Raw* here = first + x.start(q) * job.input_stride[4];
      const OutputRow<T, Code> to(job, item, job.channels);
      const auto& inside = pixels.at(q);
      if (by_line && inside.count > 0) {
        line.pool(here, inside, job.channels, to);
      } else {
        pool_pixel<T, Code, N>(here, inside, job.channels, to);
      }
    }
  }
}

template <class T, class Code>
void pool_channels_last(const PoolJob& job, int64_t begin, int64_t end) {
  with_lanes<Kinds<T, Code>::lanes>(
      job.channels, [&](auto lanes) { pool_channels_last_lanes<T, Code, decltype(lanes)::value>(job, begin, end); });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
