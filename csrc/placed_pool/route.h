// The backward of max pooling over windows at given places: windows in row-major order, each adding its number to the
// cell that won. A code that names no cell of its window adds nothing.
#pragma once

#include "common/narrow.h"
#include "placed_pool/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Codes taken apart: bytes by a table, wider ones by division. `away`: from the window's first cell, in the input.
template <class Code>
class BoxCells {
 public:
  struct Cell {
    int64_t d, h, w, away;
  };
  explicit BoxCells(const PlacedWindows& windows) : windows_(windows), cells_(tabled) {
    for (int64_t code = 0; code < tabled; ++code) cells_[code] = find(code);
  }
  Cell operator()(Code code) const {
    const auto number = static_cast<int64_t>(code);
    if constexpr (tabled > 0) return cells_[number];
    return number < 0 ? foreign : find(number);
  }

 private:
  static constexpr int64_t tabled = sizeof(Code) == 1 ? 256 : 0;
  static constexpr Cell foreign = {0, 0, INT64_MAX / 2, 0};  // to the right of every window
  Cell find(int64_t code) const {
    const PlacedAxis &y = windows_.axis[1], &x = windows_.axis[2];
    if (code >= windows_.cells()) return foreign;
    const int64_t d = code / x.kernel / y.kernel, h = code / x.kernel % y.kernel, w = code % x.kernel;
    return {d, h, w, (d * y.size + h) * x.size + w};
  }
  const PlacedWindows& windows_;
  Scratch<Cell> cells_;
};

// Where in its plane the code of a window points, row by row of windows.
template <class Code>
class PlacedLanding {
 public:
  explicit PlacedLanding(const PlacedWindows& windows) : windows_(windows), cells_(windows) {}

  void go_to(int64_t map, int64_t od, int64_t p) {
    const PlacedAxis &z = windows_.axis[0], &y = windows_.axis[1], &x = windows_.axis[2];
    const int64_t d = z.begin[map * z.apart + od], h = y.begin[map * y.apart + p];
    row_ = (d * y.size + h) * x.size;
    depth_ = z.end[map * z.apart + od] - d;
    height_ = y.end[map * y.apart + p] - h;
    is_box_ = depth_ == z.kernel && height_ == y.kernel;
    begin_ = x.begin + map * x.apart;
    end_ = x.end + map * x.apart;
  }
  // The cell of the plane that window q of the row names, or -1.
  int64_t operator()(int64_t q, Code code) const {
    const auto cell = cells_(code);
    if (begin_[q] + cell.w >= end_[q]) return -1;
    if (!is_box_ && (cell.d >= depth_ || cell.h >= height_)) return -1;
    return row_ + begin_[q] + cell.away;
  }

 private:
  const PlacedWindows& windows_;
  BoxCells<Code> cells_;
  int64_t row_ = 0, depth_ = 0, height_ = 0;
  bool is_box_ = false;  // as deep and as high as windows get
  const int64_t *begin_ = nullptr, *end_ = nullptr;
};

// A row of windows that have all cells of the box: bytes say how far the winner lies from the window's first cell.
template <class T>
class BoxRow {
 public:
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;

  explicit BoxRow(const PlacedWindows& windows) : windows_(windows), away_(256) {
    const PlacedAxis &y = windows.axis[1], &x = windows.axis[2];
    for (int64_t code = 0; code < 256; ++code) {
      const int64_t row = code / x.kernel, h = row / y.kernel * y.size + row % y.kernel;
      away_[code] = code < windows.cells() ? h * x.size + code % x.kernel : nowhere;
    }
  }
  void add(int64_t map, int64_t od, int64_t p, const Raw* pooled, const uint8_t* codes, Sum* sums) const {
    const PlacedAxis &z = windows_.axis[0], &y = windows_.axis[1], &x = windows_.axis[2];
    sums += (z.begin[map * z.apart + od] * y.size + y.begin[map * y.apart + p]) * x.size;
    const int64_t *begin = x.begin + map * x.apart, *away = away_.get();
    for (int64_t q = 0; q < x.places; ++q) {
      const int64_t by = away[codes[q]];
      if (by == nowhere) continue;
      Sum& sum = sums[begin[q] + by];
      sum = static_cast<Sum>(sum + Element<T>::widen(pooled[q]));
    }
  }

 private:
  static constexpr int64_t nowhere = -1;
  const PlacedWindows& windows_;
  Scratch<int64_t> away_;
};

// Half-precision planes of which few cells win: these alone are rounded. `sums` is clear before and after.
template <class T, class Code>
void route_few_halves(const PlacedAxis* axis, int64_t map, PlacedLanding<Code>& landing,
                      const typename Element<T>::Raw* pooled, const Code* codes, int64_t* winners, float* sums,
                      typename Element<T>::Raw* routed) {
  int64_t count = 0;
  for (int64_t od = 0; od < axis[0].places; ++od)
    for (int64_t p = 0; p < axis[1].places; ++p, pooled += axis[2].places, codes += axis[2].places) {
      landing.go_to(map, od, p);
      for (int64_t q = 0; q < axis[2].places; ++q) {
        const int64_t at = landing(q, codes[q]);
        if (at < 0) continue;
        sums[at] += Element<T>::widen(pooled[q]);
        winners[count++] = at;
      }
    }
  for (int64_t i = 0; i < count; ++i) routed[winners[i]] = Element<T>::narrow(sums[winners[i]]);
  for (int64_t i = 0; i < count; ++i) sums[winners[i]] = 0;
}

template <class T, class Code>
void placed_route_planar(const PlacedRouteJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;
  constexpr bool direct = std::is_same_v<Raw, Sum>;
  const PlacedAxis* axis = job.windows.axis;
  const int64_t cells = job.windows.input_cells(), places = job.windows.output_cells();
  PlacedLanding<Code> landing(job.windows);
  const BoxRow<T> boxes(job.windows);
  const bool few = !direct && 8 * places < cells && axis[2].end != nullptr;
  Scratch<Sum> scratch(direct ? 0 : cells);
  Scratch<int64_t> winners(few ? places : 0);
  if (few) std::memset(scratch.get(), 0, static_cast<size_t>(cells) * sizeof(Sum));
  for (int64_t map = begin; map < end; ++map) {
    const auto* pooled = static_cast<const Raw*>(job.pooled) + map * places;
    const auto* codes = static_cast<const Code*>(job.codes) + map * places;
    auto* routed = static_cast<Raw*>(job.routed) + map * cells;
    Sum* sums = scratch.get();
    if constexpr (direct) {
      sums = routed;
    } else if (few) {
      std::memset(routed, 0, static_cast<size_t>(cells) * sizeof(Raw));
      route_few_halves<T, Code>(axis, map, landing, pooled, codes, winners.get(), sums, routed);
      continue;
    }
    std::memset(sums, 0, static_cast<size_t>(cells) * sizeof(Sum));
    for (int64_t od = 0; od < axis[0].places; ++od)
      for (int64_t p = 0; p < axis[1].places; ++p, pooled += axis[2].places, codes += axis[2].places) {
        if constexpr (sizeof(Code) == 1)
          if (job.windows.are_boxes) {
            boxes.add(map, od, p, pooled, codes, sums);
            continue;
          }
        landing.go_to(map, od, p);
        for (int64_t q = 0; q < axis[2].places; ++q) {
          const int64_t at = landing(q, codes[q]);
          if (at >= 0) sums[at] = static_cast<Sum>(sums[at] + Element<T>::widen(pooled[q]));
        }
      }
    if constexpr (!direct) narrow_all<T>(sums, cells, routed);
  }
}

// One window of some channels: where its codes point is laid out once for all of them.
template <class T>
void placed_route_pixel(const PlacedLanding<uint8_t>& landing, int64_t q, int64_t cells,
                        const typename Element<T>::Raw* pooled, const uint8_t* codes, int64_t count,
                        typename Element<T>::Sum* sums, int64_t apart, int64_t* away) {
  for (int64_t code = 0; code < cells; ++code) {
    const int64_t at = landing(q, static_cast<uint8_t>(code));
    away[code] = at < 0 ? -1 : at * apart;
  }
  for (int64_t c = 0; c < count; ++c) {
    const int64_t by = away[codes[c]];
    if (by < 0) continue;
    auto& sum = sums[by + c];
    sum = static_cast<typename Element<T>::Sum>(sum + Element<T>::widen(pooled[c]));
  }
}

// Sums of one chunk of an image's channels, `apart` elements from pixel to pixel.
template <class T, class Code>
void placed_route_chunk(const PlacedRouteJob& job, PlacedLanding<Code>& landing, int64_t image, int64_t channel,
                        int64_t count, typename Element<T>::Sum* sums, int64_t apart) {
  const PlacedAxis* axis = job.windows.axis;
  int64_t place = image * job.windows.output_cells(), away[256];
  for (int64_t& by : away) by = -1;
  const bool by_table = sizeof(Code) == 1 && job.windows.cells() <= count;
  for (int64_t od = 0; od < axis[0].places; ++od)
    for (int64_t p = 0; p < axis[1].places; ++p) {
      landing.go_to(0, od, p);
      for (int64_t q = 0; q < axis[2].places; ++q, ++place) {
        const auto* pooled = static_cast<const typename Element<T>::Raw*>(job.pooled) + place * job.channels + channel;
        const auto* codes = static_cast<const Code*>(job.codes) + place * job.channels + channel;
        if constexpr (sizeof(Code) == 1)
          if (by_table) {
            placed_route_pixel<T>(landing, q, job.windows.cells(), pooled, codes, count, sums, apart, away);
            continue;
          }
        for (int64_t c = 0; c < count; ++c) {
          const int64_t at = landing(q, codes[c]);
          if (at < 0) continue;
          auto& sum = sums[at * apart + c];
          sum = static_cast<typename Element<T>::Sum>(sum + Element<T>::widen(pooled[c]));
        }
      }
    }
}

template <class T, class Code>
void placed_route_channels_last(const PlacedRouteJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;
  constexpr bool direct = std::is_same_v<Raw, Sum>;
  const int64_t cells = job.windows.input_cells(), chunks = (job.channels + placed_chunk - 1) / placed_chunk;
  PlacedLanding<Code> landing(job.windows);
  Scratch<Sum> scratch(direct ? 0 : cells * placed_chunk);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image = item / chunks, channel = item % chunks * placed_chunk;
    const int64_t left = job.channels - channel, count = left < placed_chunk ? left : placed_chunk;
    auto* routed = static_cast<Raw*>(job.routed) + image * cells * job.channels + channel;
    Sum* sums = scratch.get();
    int64_t apart = placed_chunk;
    if constexpr (direct) {
      sums = routed;
      apart = job.channels;
    }
    for (int64_t i = 0; i < cells; ++i) std::memset(sums + i * apart, 0, static_cast<size_t>(count) * sizeof(Sum));
    placed_route_chunk<T, Code>(job, landing, image, channel, count, sums, apart);
    if constexpr (!direct)
      for (int64_t i = 0; i < cells; ++i) narrow_all<T>(sums + i * apart, count, routed + i * job.channels);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
