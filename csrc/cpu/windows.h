// What the operators with pooling windows share on the CPU: the window's arguments, shapes, strides, threads.
#pragma once

#include "cpu/tensors.h"

namespace switchgrad {

constexpr int64_t work_of_a_thread = 1 << 15;  // cells that are worth waking a thread for

// The arguments every operator of the family shares, as they come from Python.
struct Geometry {
  const Sizes& kernel_size;
  const Sizes& stride;
  const Sizes& padding;  // begin and end for each axis
  const Sizes& dilation;
  bool ceil_mode;

  int64_t dims() const { return static_cast<int64_t>(kernel_size.size()); }

  Window over(const Sizes& spatial) const {
    const size_t n = kernel_size.size();
    if (n < 1 || n > 3 || stride.size() != n || dilation.size() != n || padding.size() != 2 * n || spatial.size() != n)
      fail(
          "pooling works on 1 to 3 spatial axes; kernel_size, stride, dilation need one number and padding two for "
          "each");
    Window window;
    for (size_t i = 0; i < n; ++i) {
      Axis& axis = window.axis[3 - n + i];
      axis = {spatial[i], kernel_size[i], stride[i], padding[2 * i], padding[2 * i + 1], dilation[i], 1};
      settle(axis, static_cast<int64_t>(i), ceil_mode);
    }
    return window;
  }

  ScalarType code_type(const Window& window) const {
    const CodeWidth width = code_width(window.cells());
    return width == Code8 ? ScalarType::Byte : width == Code16 ? ScalarType::Short : ScalarType::Int;
  }
};

// Refuses other axes than `spatial` ones with channels, with or without a batch; `name` lacks the "2d".
inline void check_rank(const Tensor& t, int64_t spatial, const char* name = "max_pool") {
  if (t.dim() != spatial + 1 && t.dim() != spatial + 2)
    fail(name + std::to_string(spatial) + "d takes an input of " + std::to_string(spatial + 1) + " or " +
         std::to_string(spatial + 2) + " axes (without or with a batch); this one has shape " + written(t));
  if (t.size(t.dim() - spatial - 1) == 0)
    fail("the input has 0 channels (shape " + written(t) + "); every axis but the batch needs at least 1 cell");
}

inline Sizes spatial_of(const Tensor& t, int64_t spatial) {
  const Sizes sizes = sizes_of(t);
  return Sizes(sizes.end() - spatial, sizes.end());
}

inline Sizes with_spatial(const Tensor& like, int64_t spatial, const Sizes& last) {
  Sizes sizes = sizes_of(like);
  for (int64_t i = 0; i < spatial; ++i) sizes[sizes.size() - spatial + i] = last[i];
  return sizes;
}

inline Sizes places_of(const Window& window, int64_t spatial) {
  Sizes places;
  for (int64_t i = 3 - spatial; i < 3; ++i) places.push_back(window.axis[i].places);
  return places;
}

template <class F>
void in_parallel(int64_t items, int64_t cells_an_item, const F& body) {
  const int64_t grain = work_of_a_thread / (cells_an_item > 0 ? cells_an_item : 1) + 1;
  if (items <= grain) {
    if (items > 0) body(0, items);
    return;
  }
  torch::stable::parallel_for(0, items, grain, body);
}

// Strides of batch, channel, depth, height, width; missing axes do not move.
inline void read_strides(const Tensor& t, int64_t spatial, int64_t (&stride)[5]) {
  const int64_t lead = t.dim() - spatial;
  for (int64_t& s : stride) s = 0;
  if (lead == 2) stride[0] = t.stride(0);
  stride[1] = t.stride(lead - 1);
  for (int64_t i = 0; i < spatial; ++i) stride[5 - spatial + i] = t.stride(lead + i);
}

}  // namespace switchgrad
