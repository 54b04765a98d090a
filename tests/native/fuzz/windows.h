// Random windows over axes, and the cells that they hold.
#pragma once

#include <cstdio>
#include <stdexcept>

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

inline void tell_axis(const Axis& a) {
  std::printf("  size %d, kernel %d, stride %d, padding %d + %d, dilation %d: %d places\n", static_cast<int>(a.size),
              static_cast<int>(a.kernel), static_cast<int>(a.stride), static_cast<int>(a.pad_begin),
              static_cast<int>(a.pad_end), static_cast<int>(a.dilation), static_cast<int>(a.places));
}

// Chooses how many places each axis has; false where a window does not fit.
inline bool settle_all(Axis* axes, int count) {
  try {
    for (int i = 0; i < count; ++i) settle(axes[i], i, chance(50));
  } catch (const std::runtime_error&) {
    return false;
  }
  return true;
}

// Calls body(code, d, h, w) for the cells of the window at a place that lie in the input, in row-major order.
template <class F>
void cells_of(const Window& window, int64_t place, F&& body) {
  const Axis &z = window.axis[0], &y = window.axis[1], &x = window.axis[2];
  const int64_t od = place / x.places / y.places, p = place / x.places % y.places, q = place % x.places;
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

}  // namespace fuzz
