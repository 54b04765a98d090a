// Random windows over axes, and the cells that they hold.
#pragma once

#include <algorithm>

#include "common/window.h"
#include "fuzz/numbers.h"

namespace fuzz {

using switchgrad::Axis;
using switchgrad::Window;

inline Axis any_axis(bool wide) {
  Axis a;
  a.size = wide ? between(1, chance(50) ? 300 : 70) : between(1, 9);
  a.kernel = chance(40) ? 2 : between(1, 5);
  a.stride = chance(50) ? a.kernel : between(1, 5);
  a.dilation = chance(70) ? 1 : between(1, 4);
  if (chance(50)) {
    a.pad_begin = between(0, a.span() - 1);
    a.pad_end = chance(50) ? a.pad_begin : between(0, a.span() - 1);
  }
  return a;
}

// Calls body(code, d, h, w) for the cells of window (od, p, q) that lie in the input, in row-major order.
template <class F>
void cells_of(const Window& window, int64_t od, int64_t p, int64_t q, F&& body) {
  const Axis &z = window.axis[0], &y = window.axis[1], &x = window.axis[2];
  int64_t code = 0;
  for (int64_t a = 0; a < z.kernel; ++a)
    for (int64_t r = 0; r < y.kernel; ++r)
      for (int64_t s = 0; s < x.kernel; ++s, ++code) {
        const int64_t d = od * z.stride - z.pad_begin + a * z.dilation;
        const int64_t h = p * y.stride - y.pad_begin + r * y.dilation;
        const int64_t w = q * x.stride - x.pad_begin + s * x.dilation;
        if (d >= 0 && d < z.size && h >= 0 && h < y.size && w >= 0 && w < x.size) body(code, d, h, w);
      }
}

// Strides of batch, channel, depth, height, width with gaps between rows, slices, channels and images, or repeating
// them; returns the elements spanned. The innermost axis is dense.
inline int64_t any_strides(const int64_t (&sizes)[5], bool channels_last, int64_t (&stride)[5]) {
  std::vector<int> inside_out = channels_last ? std::vector<int>{1, 4, 3, 2, 0} : std::vector<int>{4, 3, 2, 1, 0};
  const bool compact = chance(40);
  if (!compact && chance(30)) std::shuffle(inside_out.begin() + 1, inside_out.end(), random_bits);
  int64_t step = 1, span = 1;
  for (size_t i = 0; i < 5; ++i) {
    const int axis = inside_out[i];
    stride[axis] = i > 0 && !compact && chance(10) ? 0 : step;
    span += (sizes[axis] - 1) * stride[axis];
    step = std::max(step, stride[axis] * sizes[axis]) + (compact || chance(50) ? 0 : between(1, 9));
  }
  return span;
}

}  // namespace fuzz
