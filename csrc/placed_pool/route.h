// The backward of max pooling over windows at given places: windows in row-major order, each adding its number to the
// cell that won. A code that names no cell of its window adds nothing.
#pragma once

#include "common/element.h"
#include "placed_pool/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Codes taken apart: bytes by a table, wider ones by division.
template <class Code>
class BoxCells {
 public:
  struct Cell {
    int64_t d, h, w;
  };
  explicit BoxCells(const PlacedWindows& windows) : windows_(windows), cells_(tabled) {
    for (int64_t code = 0; code < tabled; ++code) cells_[code] = find(code);
  }
  Cell operator()(Code code) const {
    const auto number = static_cast<int64_t>(code);
    if constexpr (tabled > 0) return cells_[number];
    return number < 0 ? Cell{-1, 0, 0} : find(number);
  }

 private:
  static constexpr int64_t tabled = sizeof(Code) == 1 ? 256 : 0;
  Cell find(int64_t code) const {
    const int64_t high = windows_.axis[1].kernel, wide = windows_.axis[2].kernel;
    return {code / wide / high, code / wide % high, code % wide};
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
    d_ = z.begin[map * z.apart + od];
    h_ = y.begin[map * y.apart + p];
    depth_ = z.end[map * z.apart + od] - d_;
    height_ = y.end[map * y.apart + p] - h_;
    begin_ = x.begin + map * x.apart;
    end_ = x.end + map * x.apart;
  }
  // The cell of the plane that window q of the row names, or -1.
  int64_t operator()(int64_t q, Code code) const {
    const auto cell = cells_(code);
    const int64_t w = begin_[q] + cell.w;
    if (cell.d < 0 || cell.d >= depth_ || cell.h >= height_ || w >= end_[q]) return -1;
    return ((d_ + cell.d) * windows_.axis[1].size + h_ + cell.h) * windows_.axis[2].size + w;
  }

 private:
  const PlacedWindows& windows_;
  BoxCells<Code> cells_;
  int64_t d_ = 0, h_ = 0, depth_ = 0, height_ = 0;
  const int64_t *begin_ = nullptr, *end_ = nullptr;
};

template <class T, class Code>
void placed_route_planar(const PlacedRouteJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;
  constexpr bool direct = std::is_same_v<Raw, Sum>;
  const PlacedAxis* axis = job.windows.axis;
  const int64_t cells = job.windows.input_cells(), places = job.windows.output_cells();
  PlacedLanding<Code> landing(job.windows);
  Scratch<Sum> scratch(direct ? 0 : cells);
  for (int64_t map = begin; map < end; ++map) {
    const auto* pooled = static_cast<const Raw*>(job.pooled) + map * places;
    const auto* codes = static_cast<const Code*>(job.codes) + map * places;
    auto* routed = static_cast<Raw*>(job.routed) + map * cells;
    Sum* sums = scratch.get();
    if constexpr (direct) sums = routed;
    std::memset(sums, 0, static_cast<size_t>(cells) * sizeof(Sum));
    for (int64_t od = 0; od < axis[0].places; ++od)
      for (int64_t p = 0; p < axis[1].places; ++p) {
        landing.go_to(map, od, p);
        for (int64_t q = 0; q < axis[2].places; ++q, ++pooled, ++codes) {
          const int64_t at = landing(q, *codes);
          if (at >= 0) sums[at] = static_cast<Sum>(sums[at] + Element<T>::widen(*pooled));
        }
      }
    if constexpr (!direct)
      for (int64_t i = 0; i < cells; ++i) routed[i] = Element<T>::narrow(sums[i]);
  }
}

// Sums of one chunk of an image's channels, `apart` elements from pixel to pixel.
template <class T, class Code>
void placed_route_chunk(const PlacedRouteJob& job, PlacedLanding<Code>& landing, int64_t image, int64_t channel,
                        int64_t count, typename Element<T>::Sum* sums, int64_t apart) {
  const PlacedAxis* axis = job.windows.axis;
  int64_t place = image * job.windows.output_cells();
  for (int64_t od = 0; od < axis[0].places; ++od)
    for (int64_t p = 0; p < axis[1].places; ++p) {
      landing.go_to(0, od, p);
      for (int64_t q = 0; q < axis[2].places; ++q, ++place) {
        const auto* pooled = static_cast<const typename Element<T>::Raw*>(job.pooled) + place * job.channels + channel;
        const auto* codes = static_cast<const Code*>(job.codes) + place * job.channels + channel;
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
      for (int64_t i = 0; i < cells; ++i)
        for (int64_t c = 0; c < count; ++c) routed[i * job.channels + c] = Element<T>::narrow(sums[i * apart + c]);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
