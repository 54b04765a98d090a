// The rows of the input that a row of windows looks at, made ready once and kept for the next windows that need them:
// widened, and where cells are dropped, with 0 in place of these. Planar rows are padded with -infinity and parted into
// their residues modulo the stride, so that every window cell is read at unit stride.
#pragma once

#include <limits>

#include "common/numbers.h"
#include "common/threefry.h"
#include "random_pool/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class T>
class Rows {
 public:
  using A = Wide<T>;
  using Lane = Int<A>;
  static constexpr int N = wide_lanes<T>;

  Rows(const RandomPoolJob& job, bool channels_last, bool drops)
      : job_(job),
        width_(job.pool.window.axis[2]),
        channels_last_(channels_last),
        drops_(drops),
        phases_(channels_last ? 1 : smaller(width_.stride, width_.span())),
        phase_length_(channels_last ? width_.size * job.pool.channels + N
                                    : width_.places + (width_.kernel - 1) * width_.dilation / width_.stride + N),
        slot_length_(phases_ * phase_length_),
        deep_(smaller(job.pool.window.axis[0].span(), job.pool.window.axis[0].size)),
        high_(smaller(job.pool.window.axis[1].span(), job.pool.window.axis[1].size)),
        none_(static_cast<Lane>(code_width(job.pool.window.cells()) == Code8 ? 255 : -1)),
        values_(deep_ * high_ * slot_length_),
        dropped_(drops ? deep_ * high_ * slot_length_ : 0),
        line_(line_length()),
        dropped_line_(drops ? line_length() : 0),
        held_(deep_ * high_),
        cells_(width_.kernel),
        words_(job.seed, width_.size),
        apart_(drops && channels_last ? job.pool.channels + vector_bytes / 4 : 0) {
    for (int64_t i = 0; i < deep_ * high_ * slot_length_; ++i) values_[i] = lowest;
    for (int64_t i = 0; drops && i < deep_ * high_ * slot_length_; ++i) dropped_[i] = 0;
    for (int64_t i = 0; i < line_length(); ++i) line_[i] = lowest;
    for (int64_t i = 0; drops && i < line_length(); ++i) dropped_line_[i] = 0;
    for (int64_t i = 0; i < deep_ * high_; ++i) held_[i] = -1;
    for (int64_t s = 0; s < width_.kernel; ++s) {
      const int64_t away = s * width_.dilation;
      cells_[s] = away % width_.stride * phase_length_ + away / width_.stride;
    }
  }

  // The slot of input row (z, y) of a map (planar) or picture (channels last).
  int64_t slot(int64_t plane, int64_t z, int64_t y) {
    const Axis* axis = job_.pool.window.axis;
    const int64_t row = (plane * axis[0].size + z) * axis[1].size + y;
    const int64_t at = z % deep_ * high_ + y % high_;
    if (held_[at] != row) {
      held_[at] = row;
      if (channels_last_) {
        fill_pixels(plane, z, y, at * slot_length_);
      } else {
        fill_planar(plane, z, y, row, at * slot_length_);
      }
    }
    return at * slot_length_;
  }

  // Where cell s of the first window lies in a slot (planar), or pixel `column` (channels last).
  int64_t cell(int64_t s) const { return cells_[s]; }
  int64_t pixel(int64_t column) const { return column * job_.pool.channels; }

  const A* values(int64_t at) const { return values_.get() + at; }
  const Lane* dropped(int64_t at) const { return drops_ ? dropped_.get() + at : nullptr; }
  int64_t none() const { return none_; }

 private:
  static constexpr A lowest = -std::numeric_limits<A>::infinity();
  static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

  // A padded row, whole.
  int64_t line_length() const {
    const int64_t windows = (width_.places - 1) * width_.stride + width_.span();
    const int64_t cells = width_.pad_begin + width_.size;
    return channels_last_ ? 0 : (windows < cells ? cells : windows) + 2 * N;
  }

  const Raw<T>* input(int64_t n, int64_t c, int64_t z, int64_t y) const {
    const int64_t* stride = job_.pool.input_stride;
    return static_cast<const Raw<T>*>(job_.pool.input) + n * stride[0] + c * stride[1] + z * stride[2] + y * stride[3];
  }

  void fill_planar(int64_t plane, int64_t z, int64_t y, int64_t row, int64_t at) {
    const Raw<T>* from = input(plane / job_.pool.channels, plane % job_.pool.channels, z, y);
    widen(from, line_.get() + width_.pad_begin, width_.size);
    if (drops_)
      drop(line_.get() + width_.pad_begin, dropped_line_.get() + width_.pad_begin,
           words_.at(row * width_.size, width_.size), width_.size);
    part(line_.get(), values_.get() + at);
    if (drops_) part(dropped_line_.get(), dropped_.get() + at);
  }

  void fill_pixels(int64_t n, int64_t z, int64_t y, int64_t at) {
    const Raw<T>* from = input(n, 0, z, y);
    const int64_t channels = job_.pool.channels, step = job_.pool.input_stride[4];
    const int64_t cells = job_.pool.window.input_cells();
    const Axis* axis = job_.pool.window.axis;
    const int64_t first = n * channels * cells + (z * axis[1].size + y) * width_.size;
    if (step == channels) widen(from, values_.get() + at, width_.size * channels);
    for (int64_t w = 0; w < width_.size; ++w) {
      A* to = values_.get() + at + w * channels;
      if (step != channels) widen(from + w * step, to, channels);
      if (!drops_) continue;
      draw_apart(job_.seed, first + w, cells, channels, apart_.get());
      drop(to, dropped_.get() + at + w * channels, apart_.get(), channels);
    }
  }

  static void widen(const Raw<T>* from, A* to, int64_t count) {
    cascade<N>(0, count, [&](auto lanes, int64_t i, auto cover) {
      constexpr int M = decltype(lanes)::value;
      store(to + i, load_wide<T, M>(from + i, cover), cover);
    });
  }

  void drop(A* values, Lane* dropped, const uint32_t* words, int64_t count) const {
    cascade<N>(0, count, [&](auto lanes, int64_t i, auto cover) {
      constexpr int M = decltype(lanes)::value;
      const auto word = convert<std::make_unsigned_t<Lane>, M>(load<Vec<uint32_t, M>>(words + i, cover));
      const auto gone = word < job_.threshold;
      store(values + i, select(gone, Vec<A, M>{}, load<Vec<A, M>>(values + i, cover)), cover);
      store(dropped + i, select(gone, broadcast<Lane, M>(none_), Vec<Lane, M>{}), cover);
    });
  }

  template <class E>
  void part(const E* line, E* to) const {
    const int64_t stride = width_.stride, span = (width_.places - 1) * stride + width_.span();
    if (stride == 1) {
      std::memcpy(to, line, static_cast<size_t>(span) * sizeof(E));
    } else if (stride == 2 && phases_ == 2) {
      for (int64_t i = 0; 2 * i < span; i += N) {  // the line and both phases have room for a vector more
        Vec<E, N> even, odd;
        load_pairs<E, N>(line + 2 * i, even, odd);
        store(to + i, even);
        store(to + phase_length_ + i, odd);
      }
    } else {
      for (int64_t phase = 0; phase < phases_; ++phase)
        for (int64_t i = 0; phase + i * stride < span; ++i) to[phase * phase_length_ + i] = line[phase + i * stride];
    }
  }

  const RandomPoolJob& job_;
  Axis width_;
  bool channels_last_, drops_;
  int64_t phases_, phase_length_, slot_length_, deep_, high_;
  Lane none_;
  Scratch<A> values_;
  Scratch<Lane> dropped_;
  Scratch<A> line_;
  Scratch<Lane> dropped_line_;
  Scratch<int64_t> held_, cells_;
  Words words_;
  Scratch<uint32_t> apart_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
