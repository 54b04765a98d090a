// The backward of max pooling over pixels of neighbouring channels, from the pooled pixels to their winners.
//
// As in scatter_planar.h a cell's sum takes its windows in the order of the gather, so both give the same bits. Serves
// where many windows hold a cell: the gather looks at all of them, this at the one that each window's code names.
#pragma once

#include "max_pool/job.h"
#include "max_pool/route.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Where the cells of a window lie: by code, in elements from the window's first cell, or `nowhere`.
class PixelsByCode {
 public:
  static constexpr int64_t nowhere = -1, codes = 256;

  PixelsByCode(const Window& window, int64_t apart) : window_(window), apart_(apart), inner_(codes), border_(codes) {
    for (int64_t code = 0; code < codes; ++code) inner_[code] = border_[code] = nowhere;
    for (int64_t code = 0; code < window.cells(); ++code) inner_[code] = away(code);
  }

  const int64_t* at(int64_t od, int64_t p, int64_t q) const {
    const Axis &z = window_.axis[0], &y = window_.axis[1], &x = window_.axis[2];
    const auto is_whole = [](const Axis& axis, int64_t place) {
      return axis.first(place) == 0 && axis.last(place) == axis.kernel;
    };
    if (is_whole(z, od) && is_whole(y, p) && is_whole(x, q)) return inner_.get();
    for (int64_t code = 0, a = 0; a < z.kernel; ++a)
      for (int64_t r = 0; r < y.kernel; ++r)
        for (int64_t s = 0; s < x.kernel; ++s, ++code) {
          const bool is_inside = z.first(od) <= a && a < z.last(od) && y.first(p) <= r && r < y.last(p) &&
                                 x.first(q) <= s && s < x.last(q);
          border_[code] = is_inside ? inner_[code] : nowhere;
        }
    return border_.get();
  }

 private:
  int64_t away(int64_t code) const {
    const Axis &z = window_.axis[0], &y = window_.axis[1], &x = window_.axis[2];
    const int64_t row = code / x.kernel, h = row % y.kernel * y.dilation, d = row / y.kernel * z.dilation;
    return ((d * y.size + h) * x.size + code % x.kernel * x.dilation) * apart_;
  }

  const Window& window_;
  int64_t apart_;
  Scratch<int64_t> inner_, border_;
};

// Sums of some channels of an image, `apart` elements from pixel to pixel; slices and rows of pixels are cleared just
// before the first window reaches them.
template <class T>
class PixelSums {
 public:
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;

  PixelSums(const RouteJob& job, const PixelsByCode& by_code, int64_t apart, int64_t count, Sum* sums)
      : job_(job), by_code_(by_code), apart_(apart), count_(count), sums_(sums) {}

  void scatter(const Raw* pooled, const uint8_t* codes) {
    const Axis &z = job_.window.axis[0], &y = job_.window.axis[1], &x = job_.window.axis[2];
    for (int64_t od = 0; od < z.places; ++od)
      for (int64_t p = 0; p < y.places; ++p) {
        clear_to(reach(od, p));
        for (int64_t q = 0; q < x.places; ++q, pooled += job_.channels, codes += job_.channels) {
          const int64_t first = ((z.start(od) * y.size + y.start(p)) * x.size + x.start(q)) * apart_;
          add(by_code_.at(od, p, q), first, pooled, codes);
        }
      }
    clear_to(job_.window.input_cells());
  }

 private:
  // One past the last pixel that pooled row (od, p) and those before it can have won.
  int64_t reach(int64_t od, int64_t p) const {
    const Axis &z = job_.window.axis[0], &y = job_.window.axis[1], &x = job_.window.axis[2];
    const int64_t d = z.start(od) + z.span(), h = y.start(p) + y.span();
    if (z.size > 1) return (d < z.size ? d : z.size) * y.size * x.size;
    return (h < y.size ? h : y.size) * x.size;
  }
  void clear_to(int64_t pixel) {
    if (apart_ == count_ && cleared_ < pixel) {
      std::memset(sums_ + cleared_ * apart_, 0, static_cast<size_t>((pixel - cleared_) * apart_) * sizeof(Sum));
      cleared_ = pixel;
    }
    for (; cleared_ < pixel; ++cleared_)
      std::memset(sums_ + cleared_ * apart_, 0, static_cast<size_t>(count_) * sizeof(Sum));
  }
  void add(const int64_t* away, int64_t first, const Raw* pooled, const uint8_t* codes) const {
    const int64_t count = count_;
    Sum* sums = sums_;
    for (int64_t c = 0; c < count; ++c, ++first) {
      const int64_t by = away[codes[c]];
      if (by == PixelsByCode::nowhere) continue;
      sums[first + by] = static_cast<Sum>(sums[first + by] + Element<T>::widen(pooled[c]));
    }
  }

  const RouteJob& job_;
  const PixelsByCode& by_code_;
  int64_t apart_, count_;
  Sum* sums_;
  int64_t cleared_ = 0;
};

template <class T>
void scatter_channels_last(const RouteJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;
  constexpr bool direct = std::is_same_v<Raw, Sum>;
  const int64_t cells = job.window.input_cells(), places = job.window.output_cells();
  const int64_t chunk = job.channels < scatter_chunk ? job.channels : scatter_chunk,
                apart = direct ? job.channels : chunk;
  const int64_t chunks = (job.channels + chunk - 1) / chunk;
  const PixelsByCode by_code(job.window, apart);
  Scratch<Sum> scratch(direct ? 0 : cells * chunk);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image = item / chunks, channel = item % chunks * chunk;
    const int64_t count = job.channels - channel < chunk ? job.channels - channel : chunk;
    const int64_t from = image * places * job.channels + channel;
    auto* routed = static_cast<Raw*>(job.routed) + image * cells * job.channels + channel;
    Sum* sums = scratch.get();
    if constexpr (direct) sums = routed;
    PixelSums<T>(job, by_code, apart, count, sums)
        .scatter(static_cast<const Raw*>(job.pooled) + from, static_cast<const uint8_t*>(job.codes) + from);
    if constexpr (!direct)
      for (int64_t i = 0; i < cells; ++i) narrow_all<T>(sums + i * apart, count, routed + i * job.channels);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
