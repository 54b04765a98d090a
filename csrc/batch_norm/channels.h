// The numbers of each channel as kernels read them, and loops over the pieces of a tensor in either layout.
#pragma once

#include "batch_norm/job.h"
#include "common/numbers.h"
#include "common/sums.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// One channel's numbers, the same for every lane.
template <class A>
struct OneChannel {
  A mean_, scale_, bias_, slope_, offset_;

  template <int N, class Cover>
  SWITCHGRAD_INLINE Vec<A, N> mean(int64_t, Cover) const {
    return broadcast<A, N>(mean_);
  }
  template <int N, class Cover>
  SWITCHGRAD_INLINE Vec<A, N> scale(int64_t, Cover) const {
    return broadcast<A, N>(scale_);
  }
  template <int N, class Cover>
  SWITCHGRAD_INLINE Vec<A, N> bias(int64_t, Cover) const {
    return broadcast<A, N>(bias_);
  }
  template <int N, class Cover>
  SWITCHGRAD_INLINE Vec<A, N> slope(int64_t, Cover) const {
    return broadcast<A, N>(slope_);
  }
  template <int N, class Cover>
  SWITCHGRAD_INLINE Vec<A, N> offset(int64_t, Cover) const {
    return broadcast<A, N>(offset_);
  }
};

template <class A>
OneChannel<A> one_channel(const NormJob& job, int64_t c) {
  const auto of = [c](const double* numbers) { return numbers ? static_cast<A>(numbers[c]) : A{}; };
  return {of(job.mean), of(job.scale), of(job.bias), of(job.slope), of(job.offset)};
}

// All channels side by side, repeated over several pixels where they are few, so that loops are long.
template <class A>
class AllChannels {
 public:
  explicit AllChannels(const NormJob& job)
      : length_(job.channels * (job.channels < few ? (few + job.channels - 1) / job.channels : 1)),
        numbers_(5 * length_) {
    const double* from[] = {job.mean, job.scale, job.bias, job.slope, job.offset};
    for (int64_t k = 0; k < 5; ++k)
      for (int64_t i = 0; i < length_; i += job.channels)
        for (int64_t c = 0; c < job.channels; ++c)
          numbers_[k * length_ + i + c] = from[k] ? static_cast<A>(from[k][c]) : A{};
  }
  int64_t length() const { return length_; }

  template <int N, class Cover>
  SWITCHGRAD_INLINE Vec<A, N> mean(int64_t i, Cover cover) const {
    return at<N>(0, i, cover);
  }
  template <int N, class Cover>
  SWITCHGRAD_INLINE Vec<A, N> scale(int64_t i, Cover cover) const {
    return at<N>(1, i, cover);
  }
  template <int N, class Cover>
  SWITCHGRAD_INLINE Vec<A, N> bias(int64_t i, Cover cover) const {
    return at<N>(2, i, cover);
  }
  template <int N, class Cover>
  SWITCHGRAD_INLINE Vec<A, N> slope(int64_t i, Cover cover) const {
    return at<N>(3, i, cover);
  }
  template <int N, class Cover>
  SWITCHGRAD_INLINE Vec<A, N> offset(int64_t i, Cover cover) const {
    return at<N>(4, i, cover);
  }

 private:
  static constexpr int64_t few = 256;
  template <int N, class Cover>
  SWITCHGRAD_INLINE Vec<A, N> at(int64_t k, int64_t i, Cover cover) const {
    return load<Vec<A, N>>(numbers_.get() + k * length_ + i, cover);
  }
  int64_t length_;
  Scratch<A> numbers_;
};

// Calls body(numbers of the channels, first element, elements) for runs of the rows row .. row_end - 1 of volumes
// volume .. volume_end - 1: a run has one channel, or begins with channel 0.
template <class A, class F>
void for_each_run(const NormJob& job, const AllChannels<A>& all, const Split::Piece& piece, F&& body) {
  const int64_t volume = job.window.axis[1].size * job.row(), count = piece.rows() * job.row();
  for (int64_t v = piece.volume; v < piece.volume_end; ++v) {
    const int64_t first = v * volume + piece.row * job.row();
    if (job.channels_last) {
      for (int64_t at = 0; at < count; at += all.length())
        body(all, first + at, count - at < all.length() ? count - at : all.length());
    } else {
      body(one_channel<A>(job, v % job.channels), first, count);
    }
  }
}

// Writes the two sums of each channel of a piece. pair(numbers, lanes, from, i, cover) gives what the elements from + i
// and following add, i counted within the run.
template <class A, class F>
void write_sums(const NormJob& job, const AllChannels<A>& all, const Split& split, int64_t index, F&& pair) {
  const Split::Piece piece = split.at(index);
  if (!job.channels_last) {
    int64_t v = piece.volume;
    for_each_run(job, all, piece, [&](const auto& numbers, int64_t from, int64_t count) {
      if constexpr (std::is_same_v<std::decay_t<decltype(numbers)>, OneChannel<A>>) {
        const Sums sums(count, [&](auto lanes, int64_t i) { return pair(numbers, lanes, from, i, Whole{}); });
        for (int k = 0; k < 2; ++k) job.partial[2 * (v * split.bands + piece.band) + k] = sums.total[k];
        ++v;
      }
    });
    return;
  }
  Scratch<double> sums(2 * all.length());
  double *a = sums.get(), *b = a + all.length();
  for (int64_t i = 0; i < 2 * all.length(); ++i) a[i] = 0;
  for_each_run(job, all, piece, [&](const auto& numbers, int64_t from, int64_t count) {
    cascade<vector_bytes / 8>(0, count, [&](auto lanes, int64_t i, auto cover) {
      constexpr int N = decltype(lanes)::value;
      const auto [x, y] = pair(numbers, lanes, from, i, cover);
      store(a + i, static_cast<Vec<double, N>>(load<Vec<double, N>>(a + i, cover) + x), cover);
      store(b + i, static_cast<Vec<double, N>>(load<Vec<double, N>>(b + i, cover) + y), cover);
    });
  });
  double* to = job.partial + 2 * job.channels * index;
  for (int64_t c = 0; c < job.channels; ++c) {
    to[2 * c] = to[2 * c + 1] = 0;
    for (int64_t i = c; i < all.length(); i += job.channels) {
      to[2 * c] += a[i];
      to[2 * c + 1] += b[i];
    }
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
