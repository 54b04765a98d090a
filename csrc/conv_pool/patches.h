// Rows of one image as the kernels want them: channel by channel within a pixel, the padding in place.
#pragma once

#include "common/element.h"
#include "common/lanes.h"
#include "conv_pool/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// One past the last convolution row (or column) that pooled places up to `place` look at.
inline int64_t conv_end(const Axis& pool, int64_t place) {
  const int64_t end = pool.start(place) + pool.span();
  return end < pool.size ? end : pool.size;
}
inline int64_t conv_begin(const Axis& pool, int64_t place) { return pool.start(place) > 0 ? pool.start(place) : 0; }

// Whether windows are two-by-two squares that all lie within the convolution's output.
inline bool has_squares(const ConvPoolJob& job) {
  const auto square = [](const Axis& a) {
    return a.kernel == 2 && a.stride == 2 && a.dilation == 1 && a.pad_begin == 0 && 2 * a.places <= a.size;
  };
  return square(job.pool[0]) && square(job.pool[1]);
}

// A band of an image's rows, read through row(y) for padded rows y = -pad_begin .. and columns from -pad_begin on. The
// image itself serves where it lies so already; else its rows are copied. Copies have room for reading one vector more,
// and so have all images but the last.
template <class E>
class Band {
 public:
  Band(const ConvPoolJob& job, bool vectors_stay_within)
      : job_(job),
        width_(job.conv[1].start(conv_end(job.pool[1], job.pool[1].places - 1) - 1) + job.conv[1].kernel +
               job.conv[1].pad_begin),
        stays_within_(vectors_stay_within),
        direct_(job.conv[0].pad_begin == 0 && job.conv[1].pad_begin == 0 && job.input_stride[3] == job.channels &&
                (job.channels == 1 || job.input_stride[1] == 1) && last_row() <= job.conv[0].size &&
                width_ <= job.conv[1].size && (vectors_stay_within || one_after_another())),
        copy_(0) {}

  // Numbers from one row to the next.
  int64_t row_step() const { return direct_ ? job_.input_stride[2] : width_ * job_.channels; }
  int64_t row_bytes() const { return width_ * job_.channels * static_cast<int64_t>(sizeof(E)); }

  // Padded rows begin .. end - 1 (counted from the first row of padding) of image n; the pointer is to the first.
  const E* rows(int64_t n, int64_t begin, int64_t end) {
    const E* image = static_cast<const E*>(job_.input) + n * job_.input_stride[0];
    if (direct_ && (stays_within_ || n + 1 < job_.batch)) return image + begin * job_.input_stride[2];
    const int64_t step = row_step();
    E* to = copy_.at_least((end - begin) * step + 2 * lanes_of<E>);
    for (int64_t y = begin; y < end; ++y) copy_row(image, y - job_.conv[0].pad_begin, to + (y - begin) * step);
    for (int64_t i = 0; i < 2 * lanes_of<E>; ++i) to[(end - begin) * step + i] = 0;
    return to;
  }

 private:
  // Memory that grows.
  class Room {
   public:
    explicit Room(int64_t count) : count_(count), memory_(static_cast<E*>(::operator new(bytes(count), line))) {}
    ~Room() { ::operator delete(memory_, line); }
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;
    E* at_least(int64_t count) {
      if (count > count_) {
        ::operator delete(memory_, line);
        memory_ = nullptr;
        memory_ = static_cast<E*>(::operator new(bytes(count), line));
        count_ = count;
      }
      return memory_;
    }

   private:
    static constexpr std::align_val_t line{64};
    static size_t bytes(int64_t count) { return static_cast<size_t>(count + 1) * sizeof(E); }
    int64_t count_;
    E* memory_;
  };

  int64_t last_row() const {
    return job_.conv[0].start(conv_end(job_.pool[0], job_.pool[0].places - 1) - 1) + job_.conv[0].kernel;
  }

  // Whether a vector more can be read behind each image that another follows.
  bool one_after_another() const {
    const int64_t image = job_.conv[0].size * job_.input_stride[2];
    return job_.input_stride[2] >= job_.conv[1].size * job_.channels && job_.input_stride[0] >= image &&
           image >= lanes_of<E>;
  }

  void copy_row(const E* image, int64_t h, E* to) const {
    const int64_t channels = job_.channels, pad = job_.conv[1].pad_begin, size = job_.conv[1].size;
    const bool inside = h >= 0 && h < job_.conv[0].size;
    const int64_t begin = inside ? pad : width_, end = pad + size < width_ ? pad + size : width_;
    for (int64_t i = 0; i < begin * channels; ++i) to[i] = 0;
    if (!inside) return;
    for (int64_t i = end * channels; i < width_ * channels; ++i) to[i] = 0;
    const E* from = image + h * job_.input_stride[2];
    const int64_t c_step = job_.input_stride[1], w_step = job_.input_stride[3];
    to += begin * channels;
    if (w_step == channels && (channels == 1 || c_step == 1)) {
      std::memcpy(to, from, static_cast<size_t>((end - begin) * channels) * sizeof(E));
      return;
    }
    constexpr int64_t block = 16;  // columns; a cache line of each channel
    for (int64_t w0 = 0; w0 < end - begin; w0 += block) {
      const int64_t w1 = w0 + block < end - begin ? w0 + block : end - begin;
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t w = w0; w < w1; ++w) to[w * channels + c] = from[c * c_step + w * w_step];
    }
  }

  const ConvPoolJob& job_;
  int64_t width_;
  bool stays_within_, direct_;
  Room copy_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
