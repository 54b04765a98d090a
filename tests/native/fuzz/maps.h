// Maps of a batch, planar or with channels last: how they lie, in which dtype, and with which gaps.
#pragma once

#include <algorithm>
#include <cstdio>

#include "common/table.h"
#include "fuzz/numbers.h"

namespace fuzz {

struct Maps {
  bool channels_last = false;
  int64_t batch = 1, channels = 1;
  switchgrad::Dtype dtype = switchgrad::F32;

  int64_t planes() const { return batch * channels; }
  // Where a cell lies if they are compact.
  int64_t at(int64_t n, int64_t c, int64_t cell, int64_t cells) const {
    return channels_last ? (n * cells + cell) * channels + c : (n * channels + c) * cells + cell;
  }
  // Calls body(n, c, cell) for every cell of every map.
  template <class F>
  void each(int64_t cells, F&& body) const {
    for (int64_t n = 0; n < batch; ++n)
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t cell = 0; cell < cells; ++cell) body(n, c, cell);
  }
  void tell() const {
    std::printf("%s, dtype %d, batch %d, channels %d\n", channels_last ? "channels last" : "planar", dtype,
                static_cast<int>(batch), static_cast<int>(channels));
  }
};

// Up to `few` channels, or many where they are neighbours in memory.
inline Maps any_maps(switchgrad::Dtype dtype, bool channels_last, int64_t few, int64_t many = 150) {
  return {channels_last, between(1, 3), between(1, channels_last && chance(55) ? many : few), dtype};
}

// Calls body(T{}, dtype) with any dtype, or with one of those that have fractions.
template <class F>
void with_any_float(F&& body) {
  switch (between(0, 3)) {
    case 0: return body(double{}, switchgrad::F64);
    case 1: return body(Half{}, switchgrad::F16);
    case 2: return body(Brain{}, switchgrad::BF16);
    default: return body(float{}, switchgrad::F32);
  }
}
template <class F>
void with_any_dtype(F&& body) {
  switch (between(0, 8)) {
    case 0: return body(uint8_t{}, switchgrad::U8);
    case 1: return body(int8_t{}, switchgrad::I8);
    case 2: return body(int16_t{}, switchgrad::I16);
    case 3: return body(int32_t{}, switchgrad::I32);
    case 4: return body(int64_t{}, switchgrad::I64);
    default: return with_any_float(body);
  }
}

// Strides of axes that lie in this order; with `gaps` there may be room between their steps, with `repeats` all but the
// innermost may have a stride of 0. Returns the elements spanned.
template <size_t N>
int64_t lay(const int64_t (&sizes)[N], const std::vector<int>& inside_out, bool gaps, bool repeats,
            int64_t (&stride)[N]) {
  int64_t step = 1, span = 1;
  for (size_t i = 0; i < N; ++i) {
    const int axis = inside_out[i];
    stride[axis] = i > 0 && repeats && chance(10) ? 0 : step;
    span += (sizes[axis] - 1) * stride[axis];
    step = std::max(step, stride[axis] * sizes[axis]) + (gaps && chance(50) ? between(1, 9) : 0);
  }
  return span;
}

// Strides of batch, channel, depth, height, width, of which the innermost is dense.
inline int64_t any_strides(const int64_t (&sizes)[5], bool channels_last, int64_t (&stride)[5]) {
  std::vector<int> inside_out = channels_last ? std::vector<int>{1, 4, 3, 2, 0} : std::vector<int>{4, 3, 2, 1, 0};
  const bool compact = chance(40);
  if (!compact && chance(30)) std::shuffle(inside_out.begin() + 1, inside_out.end(), random_bits);
  return lay(sizes, inside_out, !compact, !compact, stride);
}

}  // namespace fuzz
