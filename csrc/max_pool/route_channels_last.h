// The backward of max pooling over pixels of neighbouring channels.
#pragma once

#include "max_pool/route.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Pooled pixels that an input pixel may have won: where they are, in pixels, and which code says so.
struct PixelClaim {
  int64_t where;
  int64_t code;
};

// Half-precision sums are taken in float and rounded once.
template <class T, class Code, int N>
void sum_halves(const PixelClaim* claims, int64_t count, const RouteJob& job, typename Element<T>::Raw* routed) {
  const auto* pooled = static_cast<const typename Element<T>::Raw*>(job.pooled);
  const auto* codes = static_cast<const Code*>(job.codes);
  blocks<N>(job.channels, [&](int64_t c, auto cover) {
    Vec<float, N> sum{};
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = claims[i].where * job.channels + c;
      sum = sum + won_wide<T, N>(pooled + at, codes + at, claims[i].code, cover);
    }
    if constexpr (N == 1) {
      routed[c] = Element<T>::narrow(sum);
    } else {
      store_wide<T, N>(routed + c, sum, cover);
    }
  });
}

// One input pixel, all its channels.
template <class T, class Code, int N>
void route_pixel(const PixelClaim* claims, int64_t count, const RouteJob& job, typename Element<T>::Raw* routed) {
  using Raw = typename Element<T>::Raw;
  const auto* pooled = static_cast<const Raw*>(job.pooled);
  const auto* codes = static_cast<const Code*>(job.codes);
  const auto part = [&](int64_t i, int64_t c, auto cover) {
    const int64_t at = claims[i].where * job.channels + c;
    return won<N>(pooled + at, codes + at, claims[i].code, cover);
  };
  if (count == 0) {
    std::memset(routed, 0, static_cast<size_t>(job.channels) * sizeof(Raw));
  } else if (count == 1) {
    blocks<N>(job.channels, [&](int64_t c, auto cover) { store(routed + c, part(0, c, cover), cover); });
  } else if constexpr (std::is_same_v<Raw, typename Element<T>::Sum>) {
    blocks<N>(job.channels, [&](int64_t c, auto cover) {
      auto sum = part(0, c, cover);
      for (int64_t i = 1; i < count; ++i) sum = static_cast<Vec<Raw, N>>(sum + part(i, c, cover));
      store(routed + c, sum, cover);
    });
  } else {
    sum_halves<T, Code, (N < wide_lanes<T> ? N : wide_lanes<T>)>(claims, count, job, routed);
  }
}

// Whether the one window of every map is the map: then a pixel's number is its code.
inline bool routes_whole_maps(const Window& window) {
  for (const Axis& axis : window.axis)
    if (axis.places != 1 || axis.kernel != axis.size || axis.pad_begin != 0 || (axis.dilation != 1 && axis.size > 1))
      return false;
  return true;
}

// So few of their cells win that all are cleared, and the winners written. (To keep numbers and codes in registers, a
// few channels at a time through all pixels, is three times slower: the processor asks ahead for whole rows only.)
template <class T, class Code>
void route_maps(const RouteJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  const int64_t cells = job.window.input_cells(), channels = job.channels;
  for (int64_t item = begin; item < end;) {
    const int64_t image = item / cells, first = item - image * cells;
    const int64_t left = (image + 1) * cells < end ? cells - first : end - item;
    const auto* pooled = static_cast<const Raw*>(job.pooled) + image * channels;
    const auto* codes = static_cast<const Code*>(job.codes) + image * channels;
    Raw* routed = static_cast<Raw*>(job.routed) + item * channels;
    std::memset(routed, 0, static_cast<size_t>(left * channels) * sizeof(Raw));
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t pixel = static_cast<int64_t>(codes[c]) - first;
      if (static_cast<uint64_t>(pixel) < static_cast<uint64_t>(left)) routed[pixel * channels + c] = pooled[c];
    }
    item += left;
  }
}

template <class T, class Code>
void route_channels_last(const RouteJob& job, int64_t begin, int64_t end) {
  if (routes_whole_maps(job.window)) return route_maps<T, Code>(job, begin, end);
  using Raw = typename Element<T>::Raw;
  const Axis &depth = job.window.axis[0], &height = job.window.axis[1], &width = job.window.axis[2];
  const Covering in_depth(depth), in_height(height), in_width(width);
  const int64_t most_rows = Covering::most(depth) * Covering::most(height);
  Scratch<PixelClaim> row_claims(most_rows), claims(most_rows * Covering::most(width));
  with_lanes<RouteKinds<Raw, Code>::lanes>(job.channels, [&](auto lanes) {
    for (int64_t item = begin; item < end;) {
      const int64_t row = item / width.size, h = row % height.size, volume = row / height.size;
      const int64_t d = volume % depth.size, n = volume / depth.size;
      int64_t rows = 0;
      for (const Cover* z = in_depth.begin(d); z != in_depth.end(d); ++z)
        for (const Cover* y = in_height.begin(h); y != in_height.end(h); ++y)
          row_claims[rows++] = {((n * depth.places + z->place) * height.places + y->place) * width.places,
                                (z->cell * height.kernel + y->cell) * width.kernel};
      const int64_t until = (row + 1) * width.size < end ? (row + 1) * width.size : end;
      for (int64_t w = item - row * width.size; item < until; ++item, ++w) {
        int64_t count = 0;
        for (int64_t i = 0; i < rows; ++i)
          for (const Cover* x = in_width.begin(w); x != in_width.end(w); ++x)
            claims[count++] = {row_claims[i].where + x->place, row_claims[i].code + x->cell};
        route_pixel<T, Code, decltype(lanes)::value>(claims.get(), count, job,
                                                     static_cast<Raw*>(job.routed) + item * job.channels);
      }
    }
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
