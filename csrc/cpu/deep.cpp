#include "cpu/deep.h"

#include <algorithm>
#include <cstring>

namespace switchgrad {
namespace {

// A few bytes, fewer than a call of memcpy is worth.
inline void copy_short(char* to, const char* from, size_t bytes) {
  for (; bytes >= 16; to += 16, from += 16, bytes -= 16) std::memcpy(to, from, 16);
  for (; bytes >= 4; to += 4, from += 4, bytes -= 4) std::memcpy(to, from, 4);
}

}  // namespace

Tensor deep_filters(const ConvPoolJob& job, const int64_t (&taps)[2], const Tensor& weight) {
  const Tensor given = relaid(weight, false);
  const Tensor deep =
      compact({job.filters, steps_of(job) * job.channels, taps[0], taps[1]}, false, weight.scalar_type());
  const size_t width = static_cast<size_t>(weight.element_size());
  auto* to = static_cast<char*>(deep.mutable_data_ptr());
  const auto* from = static_cast<const char*>(given.const_data_ptr());
  std::memset(to, 0, static_cast<size_t>(deep.numel()) * width);
  for_each_deep_weight(job, taps, [&](int64_t at, int64_t k, int64_t c, int64_t r, int64_t s) {
    const int64_t tap = r * job.conv[1].kernel + s;
    copy_short(to + static_cast<size_t>(at) * width,
               from + static_cast<size_t>((k * job.channels + c) * job.taps() + tap) * width, width);
  });
  return deep;
}

DeepMap::DeepMap(const ConvPoolJob& job, const int64_t (&taps)[2], const Tensor& input, int64_t pictures)
    : job_(job),
      width_(static_cast<size_t>(input.element_size())),
      data_(static_cast<const char*>(input.const_data_ptr())),
      image_stride_(input.stride(0)),
      row_stride_(input.stride(2)),
      memory_(scratch(pictures * size(job, taps), input)) {
  const int64_t channels = steps_of(job) * job.channels;
  const int64_t rows = used(job.pool[0]) + taps[0] - 1, columns = used(job.pool[1]) + taps[1] - 1;
  pixels_ = {memory_.get(), rows, columns, channels, {rows * columns * channels, columns * channels, channels}};
}

void DeepMap::read(int64_t first, int64_t count) const {
  in_parallel(count * pixels_.rows, pixels_.stride[1], [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const char* picture = data_ + static_cast<size_t>((first + row / pixels_.rows) * image_stride_) * width_;
      read_row(picture, row % pixels_.rows,
               static_cast<char*>(memory_.get()) + static_cast<size_t>(row * pixels_.stride[1]) * width_);
    }
  });
}

void DeepMap::read_row(const char* picture, int64_t row, char* to) const {
  const Axis &y = job_.conv[0], &x = job_.conv[1];
  const size_t pixel = static_cast<size_t>(job_.channels) * width_, run = static_cast<size_t>(x.stride) * pixel;
  const size_t step = static_cast<size_t>(y.stride) * run;
  for (int64_t r = 0; r < y.stride; ++r, to += run) {
    const int64_t at = y.start(row) + r;
    const bool inside = at >= 0 && at < y.size;
    const char* from = picture + static_cast<size_t>(at * row_stride_) * width_;
    for (int64_t column = 0; column < pixels_.columns; ++column) {
      const int64_t first = x.start(column);
      char* const here = to + static_cast<size_t>(column) * step;
      if (inside && first >= 0 && first + x.stride <= x.size) {
        copy_short(here, from + static_cast<size_t>(first) * pixel, run);
        continue;
      }
      std::memset(here, 0, run);
      const int64_t begin = std::max<int64_t>(first, 0), end = std::min(first + x.stride, x.size);
      if (inside && begin < end)
        std::memcpy(here + static_cast<size_t>(begin - first) * pixel, from + static_cast<size_t>(begin) * pixel,
                    static_cast<size_t>(end - begin) * pixel);
    }
  }
}

}  // namespace switchgrad
