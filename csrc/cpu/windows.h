// What the operators with pooling windows share on the CPU: the window's arguments, shapes, strides, threads.
#pragma once

#include "cpu/tensors.h"

namespace switchgrad {

constexpr int64_t work_of_a_thread = 1 << 15;  // cells that are worth waking a thread for

// The window that every operator of the family takes, as it comes from Python: in one list, because each argument more
// costs a small map as much as its pooling. Of n axes the kernel's sizes, strides, padding at begin and end, dilations,
// then whether the number of places is rounded up.
class Geometry {
 public:
  Geometry(const Sizes& numbers) : numbers_(numbers), dims_(numbers.size() / 5) {
    if (dims_ < 1 || dims_ > 3 || numbers.size() != 5 * dims_ + 1)
      fail("a window over 1, 2 or 3 axes has 6, 11 or 16 numbers; this one has " + std::to_string(numbers.size()));
  }

  int64_t dims() const { return static_cast<int64_t>(dims_); }

  Window over(const Sizes& spatial) const {
    if (spatial.size() != dims_)
      fail("the window has " + std::to_string(dims_) + " axes and the input " + std::to_string(spatial.size()) +
           " spatial ones; give as many");
    Window window;
    const int64_t *kernel = numbers_.data(), *stride = kernel + dims_, *padding = stride + dims_;
    const int64_t* dilation = padding + 2 * dims_;
    for (size_t i = 0; i < dims_; ++i) {
      Axis& axis = window.axis[3 - dims_ + i];
      axis = {spatial[i], kernel[i], stride[i], padding[2 * i], padding[2 * i + 1], dilation[i], 1};
      settle(axis, static_cast<int64_t>(i), numbers_.back() != 0);
    }
    return window;
  }

  ScalarType code_type(const Window& window) const {
    const CodeWidth width = code_width(window.cells());
    return width == Code8 ? ScalarType::Byte : width == Code16 ? ScalarType::Short : ScalarType::Int;
  }

 private:
  const Sizes& numbers_;
  size_t dims_;
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
  Sizes sizes(spatial);
  for (int64_t i = 0; i < spatial; ++i) sizes[i] = t.size(t.dim() - spatial + i);
  return sizes;
}

inline Sizes with_spatial(const Tensor& like, int64_t spatial, const Sizes& last) {
  Sizes sizes = sizes_of(like);
  for (int64_t i = 0; i < spatial; ++i) sizes[sizes.size() - spatial + i] = last[i];
  return sizes;
}

inline Sizes places_of(const Window& window, int64_t spatial) {
  Sizes places(spatial);
  for (int64_t i = 0; i < spatial; ++i) places[i] = window.axis[3 - spatial + i].places;
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
