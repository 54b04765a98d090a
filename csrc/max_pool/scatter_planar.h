// The backward of max pooling plane by plane: windows in row-major order, each adding its number to the cell that won.
//
// A cell's sum starts at 0 and takes its windows in the order of the gather (route_planar.h), so both give the same
// bits; which of the two serves is a matter of speed. Rows are cleared just before the first window reaches them, so a
// plane passes through the cache once. Four planes are gone through side by side: neighbouring windows often have the
// same winner, and an addition to a cell waits for the one before.
#pragma once

#include "max_pool/route.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int planes_together = 4;

// Where the numbers of a row of windows go, in some planes that follow one another. Codes may come from another
// pooling: one that points outside its window or the input adds nothing.
template <class T, class Code>
class RowScatter {
 public:
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;

  explicit RowScatter(const Window& window) : window_(window) {}

  // Windows (od, p, all) of these planes.
  template <int Planes>
  void add(int64_t od, int64_t p, const Raw* pooled, const Code* codes, Sum* plane) const {
    const int64_t places = window_.output_cells(), cells = window_.input_cells();
    for (int i = 0; i < Planes; ++i) add_to_one(od, p, pooled + i * places, codes + i * places, plane + i * cells);
  }

 private:
  void add_to_one(int64_t od, int64_t p, const Raw* pooled, const Code* codes, Sum* plane) const {
    const Axis &z = window_.axis[0], &y = window_.axis[1], &x = window_.axis[2];
    for (int64_t q = 0; q < x.places; ++q) {
      if (static_cast<uint64_t>(codes[q]) >= static_cast<uint64_t>(window_.cells())) continue;
      const int64_t row = static_cast<int64_t>(codes[q]) / x.kernel;
      const int64_t d = z.start(od) + row / y.kernel * z.dilation, h = y.start(p) + row % y.kernel * y.dilation;
      const int64_t w = x.start(q) + static_cast<int64_t>(codes[q]) % x.kernel * x.dilation;
      if (d < 0 || d >= z.size || h < 0 || h >= y.size || w < 0 || w >= x.size) continue;
      Sum& sum = plane[(d * y.size + h) * x.size + w];
      sum = static_cast<Sum>(sum + Element<T>::widen(pooled[q]));
    }
  }

  const Window& window_;
};

// Bytes are looked up: how far from the window's first cell and, at the border, whether the cell is in the input.
template <class T>
class RowScatter<T, uint8_t> {
 public:
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;

  explicit RowScatter(const Window& window)
      : window_(window),
        away_(codes_),
        of_depth_(window.axis[0]),
        of_height_(window.axis[1]),
        of_width_(window.axis[2]) {
    const Axis &z = window.axis[0], &y = window.axis[1], &x = window.axis[2];
    for (int64_t code = 0; code < codes_; ++code) away_[code] = nowhere;
    for (int64_t code = 0; code < window.cells(); ++code) {
      const int64_t s = code % x.kernel, r = code / x.kernel % y.kernel, a = code / x.kernel / y.kernel;
      away_[code] = (a * z.dilation * y.size + r * y.dilation) * x.size + s * x.dilation;
      of_depth_.allow(z, a, code);
      of_height_.allow(y, r, code);
      of_width_.allow(x, s, code);
    }
    while (inner_begin_ < x.places && x.first(inner_begin_) > 0) ++inner_begin_;
    inner_end_ = inner_begin_;
    while (inner_end_ < x.places && x.last(inner_end_) == x.kernel) ++inner_end_;
  }

  template <int Planes>
  void add(int64_t od, int64_t p, const Raw* pooled, const uint8_t* codes, Sum* plane) const {
    const Axis &z = window_.axis[0], &y = window_.axis[1], &x = window_.axis[2];
    const int64_t first = (z.start(od) * y.size + y.start(p)) * x.size - x.pad_begin;
    const auto clipped = [&](int64_t q, int64_t end) {
      const int64_t places = window_.output_cells(), cells = window_.input_cells();
      for (int i = 0; i < Planes; ++i)
        add_clipped(od, p, q, end, first, pooled + i * places, codes + i * places, plane + i * cells);
    };
    if (z.last(od) - z.first(od) == z.kernel && y.last(p) - y.first(p) == y.kernel) {
      clipped(0, inner_begin_);
      add_inner<Planes>(window_, inner_begin_, inner_end_, first, away_.get(), pooled, codes, plane);
      clipped(inner_end_, x.places);
    } else {
      clipped(0, x.places);
    }
  }

 private:
  static constexpr int64_t codes_ = 256, words_ = codes_ / 64, nowhere = INT64_MIN;

  // Windows inside the input.
  template <int Planes>
  static void add_inner(const Window& window, int64_t q, int64_t end, int64_t first, const int64_t* away,
                        const Raw* pooled, const uint8_t* codes, Sum* plane) {
    const int64_t stride = window.axis[2].stride, places = window.output_cells(), cells = window.input_cells();
    for (first += q * stride; q < end; ++q, first += stride) {
#pragma GCC unroll 4
      for (int i = 0; i < Planes; ++i) {
        const int64_t by = away[codes[i * places + q]];
        if (by < 0) continue;
        Sum& sum = plane[i * cells + first + by];
        sum = static_cast<Sum>(sum + Element<T>::widen(pooled[i * places + q]));
      }
    }
  }

  void add_clipped(int64_t od, int64_t p, int64_t q, int64_t end, int64_t first, const Raw* pooled,
                   const uint8_t* codes, Sum* plane) const {
    const int64_t stride = window_.axis[2].stride;
    const int64_t* away = away_.get();
    const uint64_t* columns = of_width_.at(q);
    uint64_t row[words_];
    for (int64_t i = 0; i < words_; ++i) row[i] = of_depth_.at(od)[i] & of_height_.at(p)[i];
    for (first += q * stride; q < end; ++q, first += stride, columns += words_) {
      const int64_t code = codes[q];
      if ((row[code / 64] & columns[code / 64]) >> code % 64 & 1) {
        Sum& sum = plane[first + away[code]];
        sum = static_cast<Sum>(sum + Element<T>::widen(pooled[q]));
      }
    }
  }

  // One bit a code for each place along an axis: does the cell that the code names lie in the input?
  class Allowed {
   public:
    explicit Allowed(const Axis& axis) : bits_(axis.places * words_) {
      for (int64_t i = 0; i < axis.places * words_; ++i) bits_[i] = 0;
    }
    void allow(const Axis& axis, int64_t cell, int64_t code) {
      for (int64_t place = 0; place < axis.places; ++place)
        if (axis.first(place) <= cell && cell < axis.last(place))
          bits_[place * words_ + code / 64] |= uint64_t{1} << code % 64;
    }
    const uint64_t* at(int64_t place) const { return bits_.get() + place * words_; }

   private:
    Scratch<uint64_t> bits_;
  };

  const Window& window_;
  Scratch<int64_t> away_;
  Allowed of_depth_, of_height_, of_width_;
  int64_t inner_begin_ = 0, inner_end_ = 0;  // windows along the width that lie inside
};

// Small planes: where each code of each window points is laid out once, so that a plane is one short loop.
class SmallPlane {
 public:
  static bool fits(const Window& window, int64_t planes) {
    const int64_t nearby = planes < 64 ? 1 << 13 : 1 << 15;  // a large table must be worth its making
    return window.input_cells() <= INT16_MAX && window.cells() <= 254 &&
           window.output_cells() <= nearby / (window.cells() + 1);
  }

  explicit SmallPlane(const Window& window)
      : places_(window.output_cells()),
        cells_(window.cells()),
        size_(window.input_cells()),
        at_(places_ * (cells_ + 1)) {
    const Axis &z = window.axis[0], &y = window.axis[1], &x = window.axis[2];
    for (int64_t i = 0; i < places_ * (cells_ + 1); ++i) at_[i] = nowhere;
    int16_t* at = at_.get();
    for (int64_t od = 0; od < z.places; ++od)
      for (int64_t p = 0; p < y.places; ++p)
        for (int64_t q = 0; q < x.places; ++q, at += cells_ + 1)
          for (int64_t a = z.first(od); a < z.last(od); ++a)
            for (int64_t r = y.first(p); r < y.last(p); ++r)
              for (int64_t s = x.first(q); s < x.last(q); ++s) {
                const int64_t d = z.start(od) + a * z.dilation, h = y.start(p) + r * y.dilation;
                const int64_t cell = (d * y.size + h) * x.size + x.start(q) + s * x.dilation;
                at[(a * y.kernel + r) * x.kernel + s] = static_cast<int16_t>(cell);
              }
  }

  // Of planes that follow one another.
  template <class T, int Planes>
  void add(const typename Element<T>::Raw* pooled, const uint8_t* codes, typename Element<T>::Sum* sums) const {
    using Sum = typename Element<T>::Sum;
    const int64_t places = places_, cells = cells_, size = size_;
    const int16_t* at = at_.get();
    for (int64_t i = 0; i < places; ++i, at += cells + 1) {
#pragma GCC unroll 4
      for (int plane = 0; plane < Planes; ++plane) {
        const int64_t given = codes[plane * places + i], cell = at[given < cells ? given : cells];
        if (cell == nowhere) continue;
        Sum& sum = sums[plane * size + cell];
        sum = static_cast<Sum>(sum + Element<T>::widen(pooled[plane * places + i]));
      }
    }
  }

 private:
  static constexpr int16_t nowhere = -1;
  int64_t places_, cells_, size_;
  Scratch<int16_t> at_;  // for each window its cells by code, and one more for all codes beyond
};

// One past the last cell that pooled row (od, p) and those before it can have won.
inline int64_t scatter_reach(const Window& window, int64_t od, int64_t p) {
  const Axis &z = window.axis[0], &y = window.axis[1], &x = window.axis[2];
  const int64_t d = z.start(od) + z.span(), h = y.start(p) + y.span();
  if (z.size > 1) return (d < z.size ? d : z.size) * y.size * x.size;
  return (h < y.size ? h : y.size) * x.size;
}

// Adds up some planes in `sums`, which need not be clear.
template <class T, class Code, int Planes>
void scatter_rows(const Window& window, const RowScatter<T, Code>& rows, const typename Element<T>::Raw* pooled,
                  const Code* codes, typename Element<T>::Sum* sums) {
  int64_t clear = 0;
  const int64_t cells = window.input_cells();
  const auto clear_to = [&](int64_t end) {
    if (end <= clear) return;
    for (int i = 0; i < Planes; ++i)
      std::memset(sums + i * cells + clear, 0, static_cast<size_t>(end - clear) * sizeof(*sums));
    clear = end;
  };
  for (int64_t od = 0; od < window.axis[0].places; ++od)
    for (int64_t p = 0; p < window.axis[1].places; ++p) {
      clear_to(scatter_reach(window, od, p));
      rows.template add<Planes>(od, p, pooled, codes, sums);
      pooled += window.axis[2].places;
      codes += window.axis[2].places;
    }
  clear_to(cells);
}

// Calls body(how many, pooled, codes, sums) for planes begin .. end - 1, several at a time; half-precision sums are
// taken in float and rounded once.
template <class T, class Code, class F>
void scatter_planes(const RouteJob& job, int64_t begin, int64_t end, const F& body) {
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;
  const int64_t cells = job.window.input_cells(), places = job.window.output_cells();
  Scratch<Sum> sums(std::is_same_v<Raw, Sum> ? 0 : planes_together * cells);
  const auto some = [&](auto count, int64_t item) {
    const auto* pooled = static_cast<const Raw*>(job.pooled) + item * places;
    const auto* codes = static_cast<const Code*>(job.codes) + item * places;
    auto* routed = static_cast<Raw*>(job.routed) + item * cells;
    if constexpr (std::is_same_v<Raw, Sum>) {
      body(count, pooled, codes, routed);
    } else {
      body(count, pooled, codes, sums.get());
      narrow_all<T>(sums.get(), decltype(count)::value * cells, routed);
    }
  };
  for (; begin + planes_together <= end; begin += planes_together)
    some(std::integral_constant<int, planes_together>{}, begin);
  for (; begin < end; ++begin) some(std::integral_constant<int, 1>{}, begin);
}

template <class T>
void scatter_small_planes(const RouteJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;
  const SmallPlane plane(job.window);
  const auto bytes = static_cast<size_t>(job.window.input_cells()) * sizeof(Sum);
  scatter_planes<T, uint8_t>(job, begin, end, [&](auto count, const Raw* pooled, const uint8_t* codes, Sum* sums) {
    constexpr int planes = decltype(count)::value;
    std::memset(sums, 0, planes * bytes);
    plane.template add<T, planes>(pooled, codes, sums);
  });
}

template <class T, class Code>
void scatter_planar(const RouteJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;
  if constexpr (!std::is_same_v<Raw, Sum>)  // nothing is added up: numbers are moved as they are
    if (!job.window.overlaps()) return scatter_planar<Raw, Code>(job, begin, end);
  if constexpr (sizeof(Code) == 1)
    if (SmallPlane::fits(job.window, end - begin)) return scatter_small_planes<T>(job, begin, end);
  const RowScatter<T, Code> rows(job.window);
  scatter_planes<T, Code>(job, begin, end, [&](auto count, const Raw* pooled, const Code* codes, Sum* sums) {
    scatter_rows<T, Code, decltype(count)::value>(job.window, rows, pooled, codes, sums);
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
