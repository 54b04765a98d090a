// Windows over axes: sizes, the ceil rule, clipped bounds. The only C++ copy of the formulas of geometry.py.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace switchgrad {

// Kernels are compiled once for each instruction set, and a function that the linker merged between them could carry
// one's instructions into another's.
#define SWITCHGRAD_NEVER_SHARED __attribute__((always_inline))

// One spatial axis: `size` input cells, `places` windows of `kernel` cells.
struct Axis {
  int64_t size = 1;
  int64_t kernel = 1;
  int64_t stride = 1;
  int64_t pad_begin = 0;
  int64_t pad_end = 0;
  int64_t dilation = 1;
  int64_t places = 1;

  SWITCHGRAD_NEVER_SHARED int64_t span() const { return dilation * (kernel - 1) + 1; }

  // Input coordinate of the window's first cell; negative in the padding.
  SWITCHGRAD_NEVER_SHARED int64_t start(int64_t place) const { return place * stride - pad_begin; }

  // First window cell that lies in the input, or past `last` where none does.
  SWITCHGRAD_NEVER_SHARED int64_t first(int64_t place) const {
    const int64_t at = start(place);
    return at >= 0 ? 0 : dilation == 1 ? -at : (-at + dilation - 1) / dilation;
  }

  // One past the last window cell that lies in the input.
  SWITCHGRAD_NEVER_SHARED int64_t last(int64_t place) const {
    const int64_t room = size - start(place);
    if (room >= span()) return kernel;
    return room <= 0 ? 0 : (room + dilation - 1) / dilation;
  }

  // The windows that can hold input cell `at`: places begin .. end - 1, of which some may hop over it by dilation.
  SWITCHGRAD_NEVER_SHARED int64_t covering_begin(int64_t at) const {
    const int64_t behind = at + pad_begin - span() + 1;
    return behind <= 0 ? 0 : (behind + stride - 1) / stride;
  }
  SWITCHGRAD_NEVER_SHARED int64_t covering_end(int64_t at) const {
    const int64_t end = (at + pad_begin) / stride + 1;
    return end < places ? end : places;
  }

  // Which cell of window `place` lies on input cell `at`, or -1.
  SWITCHGRAD_NEVER_SHARED int64_t cell(int64_t place, int64_t at) const {
    const int64_t away = at - start(place);
    return away < 0 || away % dilation != 0 || away / dilation >= kernel ? -1 : away / dilation;
  }

  SWITCHGRAD_NEVER_SHARED bool overlaps() const { return span() > stride; }

  // Two neighbouring cells, two apart, from the first cell on.
  SWITCHGRAD_NEVER_SHARED bool pairs() const { return kernel == 2 && stride == 2 && dilation == 1 && pad_begin == 0; }
};

// A window over up to three axes (depth, height, width); missing axes have one cell.
struct Window {
  Axis axis[3];

  SWITCHGRAD_NEVER_SHARED int64_t cells() const { return axis[0].kernel * axis[1].kernel * axis[2].kernel; }
  SWITCHGRAD_NEVER_SHARED int64_t input_cells() const { return axis[0].size * axis[1].size * axis[2].size; }
  SWITCHGRAD_NEVER_SHARED int64_t output_cells() const { return axis[0].places * axis[1].places * axis[2].places; }
  SWITCHGRAD_NEVER_SHARED bool overlaps() const {
    return axis[0].overlaps() || axis[1].overlaps() || axis[2].overlaps();
  }
};

[[noreturn]] inline void fail(const std::string& sentence) { throw std::runtime_error(sentence); }

// floor((H + b + e - E) / s) + 1; with ceil_mode rounded up, unless the last window would start in the end padding.
inline int64_t output_size(const Axis& a, bool ceil_mode) {
  const int64_t room = a.size + a.pad_begin + a.pad_end - a.span();
  const int64_t floored = room >= 0 ? room / a.stride : -((-room + a.stride - 1) / a.stride);
  if (!ceil_mode) return floored + 1;
  const int64_t raised = room > 0 ? (room + a.stride - 1) / a.stride : -((-room) / a.stride);
  const int64_t places = raised + 1;
  return (places - 1) * a.stride >= a.size + a.pad_begin ? places - 1 : places;
}

// Checks one axis and sets `places`; says the same sentences as geometry.py.
inline void settle(Axis& a, int64_t index, bool ceil_mode) {
  // Put together only where something is refused: that takes longer than all these questions.
  const auto where = [&] { return " along spatial axis " + std::to_string(index); };
  const auto pads = [&] { return std::to_string(a.pad_begin) + ", " + std::to_string(a.pad_end); };
  if (a.kernel < 1 || a.stride < 1 || a.dilation < 1)
    fail("kernel_size, stride and dilation" + where() + " are " + std::to_string(a.kernel) + ", " +
         std::to_string(a.stride) + " and " + std::to_string(a.dilation) + "; every entry must be at least 1");
  if (a.pad_begin < 0 || a.pad_end < 0) fail("padding (" + pads() + ")" + where() + " is negative; give 0 or more");
  constexpr int64_t limit = int64_t{1} << 40;
  if (a.kernel > limit || a.stride > limit || a.dilation > limit || a.size > limit || a.kernel * a.dilation > limit)
    fail("the window's numbers" + where() + " are beyond 2^40; use smaller ones");
  if (a.pad_begin >= a.span() || a.pad_end >= a.span())
    fail("padding (" + pads() + ")" + where() + " reaches the window's span of " + std::to_string(a.span()) +
         " cells; use at most " + std::to_string(a.span() - 1) + " on each side");
  if (a.size < 1)
    fail("spatial axis " + std::to_string(index) + " of the input has size " + std::to_string(a.size) +
         "; every axis but the batch needs at least 1 cell");
  a.places = output_size(a, ceil_mode);
  if (a.places < 1)
    fail("the window spans " + std::to_string(a.span()) + " cells" + where() + ", but the input has " +
         std::to_string(a.size) + " and the padding adds " + std::to_string(a.pad_begin) + " + " +
         std::to_string(a.pad_end) + "; use a smaller kernel_size or dilation, or more padding");
}

}  // namespace switchgrad
