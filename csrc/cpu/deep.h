// A convolution with steps as one without: of pixels that hold all that lies between two steps ("deep" ones: the rows
// within a step, in each its columns, in each the channels), and of as many fewer taps. Few channels become many, their
// runs become whole cache lines, and convolutions without steps have quicker algorithms.
#pragma once

#include "conv_pool/job.h"
#include "cpu/convolutions.h"
#include "winograd/job.h"

namespace switchgrad {

inline int64_t steps_of(const ConvPoolJob& job) { return job.conv[0].stride * job.conv[1].stride; }
inline int64_t deep_taps(const Axis& conv) { return (conv.kernel + conv.stride - 1) / conv.stride; }

// One past the last row (or column) of the convolution's outputs that a window looks at.
inline int64_t used(const Axis& pool) {
  const int64_t end = pool.start(pool.places - 1) + pool.span();
  return end < pool.size ? end : pool.size;
}

// Deep filters are compact, K x (steps * C) x taps, 0 where the filter has no tap. Calls meet(deep, k, c, r, s) with
// where each weight lies in them, from several threads.
template <class F>
void for_each_deep_weight(const ConvPoolJob& job, const int64_t (&taps)[2], const F& meet) {
  const Axis &y = job.conv[0], &x = job.conv[1];
  const int64_t channels = steps_of(job) * job.channels, plane = taps[0] * taps[1];
  in_parallel(job.filters, 4 * job.taps() * job.channels, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k)
      for (int64_t r = 0; r < y.kernel; ++r)
        for (int64_t s = 0; s < x.kernel; ++s) {
          const int64_t first = k * channels + (r % y.stride * x.stride + s % x.stride) * job.channels;
          const int64_t tap = r / y.stride * taps[1] + s / x.stride;
          for (int64_t c = 0; c < job.channels; ++c) meet((first + c) * plane + tap, k, c, r, s);
        }
  });
}

// The deep filters of a weight in any layout.
Tensor deep_filters(const ConvPoolJob& job, const int64_t (&taps)[2], const Tensor& weight);

// The deep pixels of some pictures of an input that is compact and channels last, its padding in place.
class DeepMap {
 public:
  DeepMap(const ConvPoolJob& job, const int64_t (&taps)[2], const Tensor& input, int64_t pictures);
  void read(int64_t first, int64_t count) const;
  Pixels pixels() const { return pixels_; }
  static int64_t size(const ConvPoolJob& job, const int64_t (&taps)[2]) {
    return (used(job.pool[0]) + taps[0] - 1) * (used(job.pool[1]) + taps[1] - 1) * steps_of(job) * job.channels;
  }

 private:
  void read_row(const char* picture, int64_t row, char* to) const;

  const ConvPoolJob& job_;
  size_t width_;
  const char* data_;
  int64_t image_stride_, row_stride_;
  CallScratch memory_;
  Pixels pixels_;
};

}  // namespace switchgrad
