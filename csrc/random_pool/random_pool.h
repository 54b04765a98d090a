// Pooling whose winners are drawn: rows of windows, planar (windows side by side in lanes) and channels last
// (channels).
#pragma once

#include "common/threefry.h"
#include "random_pool/rows.h"
#include "random_pool/rules.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// What N windows at a time give, until it is copied to where it belongs.
template <class T>
class Drawn {
 public:
  using Lane = Int<Wide<T>>;
  static constexpr int N = wide_lanes<T>;

  explicit Drawn(int64_t count) : values_(count + N), codes_(count + N) {}

  SWITCHGRAD_INLINE void put(int64_t at, const Winner<Wide<T>, N>& winner) {
    store_wide<T, N>(values_.get() + at, winner.value);
    store(codes_.get() + at, winner.code);
  }
  void put_none(int64_t at, int64_t none) {
    values_[at] = 0;
    codes_[at] = static_cast<Lane>(none);
  }
  void copy(const RandomPoolJob& job, int64_t to, int64_t count) const {
    std::memcpy(static_cast<Raw<T>*>(job.pool.values) + to, values_.get(), static_cast<size_t>(count) * sizeof(Raw<T>));
    switch (code_width(job.pool.window.cells())) {
      case Code8: return copy_codes<uint8_t>(job, to, count);
      case Code16: return copy_codes<int16_t>(job, to, count);
      default: return copy_codes<int32_t>(job, to, count);
    }
  }

 private:
  template <class Code>
  void copy_codes(const RandomPoolJob& job, int64_t to, int64_t count) const {
    auto* codes = static_cast<Code*>(job.pool.codes) + to;
    for (int64_t i = 0; i < count; ++i) codes[i] = static_cast<Code>(codes_[i]);
  }

  Scratch<Raw<T>> values_;
  Scratch<Lane> codes_;
};

// Calls body(a, r, z, y) for the rows of input that windows (od, p) hold, in row-major order.
template <class F>
void for_each_row(const Window& window, int64_t od, int64_t p, F&& body) {
  const Axis &depth = window.axis[0], &height = window.axis[1];
  for (int64_t a = depth.first(od); a < depth.last(od); ++a)
    for (int64_t r = height.first(p); r < height.last(p); ++r)
      body(a, r, depth.start(od) + a * depth.dilation, height.start(p) + r * height.dilation);
}

template <class T, class Rule>
void draw_planar(const RandomPoolJob& job, int64_t begin, int64_t end) {
  using A = Wide<T>;
  constexpr int N = wide_lanes<T>;
  const Window& window = job.pool.window;
  const Axis &depth = window.axis[0], &height = window.axis[1], &width = window.axis[2];
  Rows<T> rows(job, false, Rule::drops_cells);
  Cells<A> cells(window.cells());
  Drawn<T> drawn(width.places);
  Words words(job.seed, width.places + N);
  Scratch<Int<A>> first(width.places + N);
  Scratch<int64_t> hopping(width.places);  // windows without any column of the input
  int64_t hopping_count = 0;
  for (int64_t q = 0; q < width.places; ++q)
    if (width.first(q) >= width.last(q)) hopping[hopping_count++] = q;
  for (int64_t q = 0; q < width.places + N; ++q) first[q] = static_cast<Int<A>>(q < width.places ? width.first(q) : 0);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t p = item % height.places, od = item / height.places % depth.places;
    const int64_t plane = item / height.places / depth.places;
    cells.count = 0;
    for_each_row(window, od, p, [&](int64_t a, int64_t r, int64_t z, int64_t y) {
      const int64_t slot = rows.slot(plane, z, y), code = (a * height.kernel + r) * width.kernel;
      for (int64_t s = 0; s < width.kernel; ++s)
        cells.add(rows.values(slot + rows.cell(s)), rows.dropped(slot + rows.cell(s)), code + s);
    });
    const uint32_t* word = Rule::drops_cells ? nullptr : words.at(item * width.places, width.places + N);
    for (int64_t q = 0; cells.count > 0 && q < width.places; q += N) {
      const auto start =
          static_cast<Vec<Int<A>, N>>(load<Vec<Int<A>, N>>(first.get() + q) + broadcast<Int<A>, N>(cells.codes[0]));
      drawn.put(q, Rule::template winner<A, N>(cells, q, start, word + (word ? q : 0)));
    }
    for (int64_t i = 0; i < hopping_count; ++i) drawn.put_none(hopping[i], rows.none());
    for (int64_t q = 0; cells.count == 0 && q < width.places; ++q) drawn.put_none(q, rows.none());
    drawn.copy(job, item * width.places, width.places);
  }
}

template <class T, class Rule>
void draw_channels_last(const RandomPoolJob& job, int64_t begin, int64_t end) {
  using A = Wide<T>;
  constexpr int N = wide_lanes<T>;
  const Window& window = job.pool.window;
  const Axis &depth = window.axis[0], &height = window.axis[1], &width = window.axis[2];
  const int64_t channels = job.pool.channels, places = window.output_cells();
  Rows<T> rows(job, true, Rule::drops_cells);
  Cells<A> cells(window.cells());
  Drawn<T> drawn(channels);
  Scratch<uint32_t> words(channels + 16);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t p = item % height.places, od = item / height.places % depth.places;
    const int64_t n = item / height.places / depth.places;
    for (int64_t q = 0; q < width.places; ++q) {
      cells.count = 0;
      for_each_row(window, od, p, [&](int64_t a, int64_t r, int64_t z, int64_t y) {
        const int64_t slot = rows.slot(n, z, y), code = (a * height.kernel + r) * width.kernel;
        for (int64_t s = width.first(q); s < width.last(q); ++s) {
          const int64_t at = slot + rows.pixel(width.start(q) + s * width.dilation);
          cells.add(rows.values(at), rows.dropped(at), code + s);
        }
      });
      if (!Rule::drops_cells) {
        const int64_t place = (od * height.places + p) * width.places + q;
        draw_apart(job.seed, n * channels * places + place, places, channels, words.get());
      }
      for (int64_t c = 0; cells.count > 0 && c < channels; c += N)
        drawn.put(c, Rule::template winner<A, N>(cells, c, broadcast<Int<A>, N>(cells.codes[0]), words.get() + c));
      for (int64_t c = 0; cells.count == 0 && c < channels; ++c) drawn.put_none(c, rows.none());
      drawn.copy(job, (item * width.places + q) * channels, channels);
    }
  }
}

template <class T>
void stochastic_planar(const RandomPoolJob& job, int64_t begin, int64_t end) {
  draw_planar<T, Stochastic>(job, begin, end);
}
template <class T>
void stochastic_channels_last(const RandomPoolJob& job, int64_t begin, int64_t end) {
  draw_channels_last<T, Stochastic>(job, begin, end);
}
template <class T>
void dropout_planar(const RandomPoolJob& job, int64_t begin, int64_t end) {
  draw_planar<T, MaxPoolDropout>(job, begin, end);
}
template <class T>
void dropout_channels_last(const RandomPoolJob& job, int64_t begin, int64_t end) {
  draw_channels_last<T, MaxPoolDropout>(job, begin, end);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
