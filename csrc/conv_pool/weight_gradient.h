// The gradient of the weights: for each filter, the patches of its winners, each times what came back, summed.
//
// A chunk of the filter stays in registers while its winners go by, so nothing but the patches is read. Sums are taken
// over a band of an image and then over the bands, in one order whatever the threads do: they share out filters.
#pragma once

#include "conv_pool/chunks.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// A chunk, the number that multiplies and a load share the registers.
constexpr int vectors_of_sums = vector_bytes == 64 ? 24 : 12;

template <class E, int R, int V>
struct AddPatches {
  static constexpr int N = lanes_of<E>;

  static void run(const Message<E>* messages, int64_t count, const E* patches, int64_t row_step, E* filter,
                  int64_t filter_row) {
    Vec<E, N> sum[R][V] = {};
    for (int64_t i = 0; i < count; ++i) {
      const E* patch = patches + messages[i].where;
      const auto number = broadcast<E, N>(messages[i].number);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[r][v] += number * load<Vec<E, N>>(patch + r * row_step + v * N);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        E* to = filter + r * filter_row + v * N;
        store(to, static_cast<Vec<E, N>>(load<Vec<E, N>>(to) + sum[r][v]));
      }
  }
};

// The messages of some filters in some pooled rows of one image.
template <class E>
class FilterMessages {
 public:
  static constexpr int64_t together = 16;  // filters

  FilterMessages(const ConvPoolBackwardJob& job, int64_t row_step, int64_t most_pixels)
      : job_(job), most_(most_pixels), messages_(together * most_pixels), valid_(job) {
    const Axis &y = job.pool[0], &x = job.pool[1];
    for (int64_t code = 0; code < 256; ++code)
      of_code_[code] = code < valid_.cells() ? step(0, code / x.kernel * y.dilation, row_step) +
                                                   step(1, code % x.kernel * x.dilation, row_step)
                                             : 0;
  }

  // Pooled rows p .. p + rows - 1 of image n, whose band starts at convolution row `first_row`.
  void read(int64_t n, int64_t p, int64_t rows, int64_t first_row, int64_t row_step, int64_t filter, int64_t filters) {
    const Axis &y = job_.pool[0], &x = job_.pool[1];
    for (int64_t k = 0; k < filters; ++k) count_[k] = 0, sum_[k] = E{};
    for (int64_t i = p; i < p + rows; ++i)
      for (int64_t q = 0; q < x.places; ++q) {
        const int64_t at = ((n * y.places + i) * x.places + q) * job_.filters + filter;
        const E* grad = static_cast<const E*>(job_.grad) + at;
        const uint8_t* codes = job_.codes + at;
        const uint8_t* valid = valid_.of(i, q, 0, y.size);
        const int64_t window = step(0, y.start(i) - first_row, row_step) + step(1, x.start(q), row_step);
        for (int64_t k = 0; k < filters; ++k) {
          messages_[k * most_ + count_[k]] = {static_cast<int32_t>(window + of_code_[codes[k]]), grad[k]};
          count_[k] += valid[codes[k]] & (grad[k] != 0);
        }
      }
    for (int64_t k = 0; k < filters; ++k)
      for (int64_t i = 0; i < count_[k]; ++i) sum_[k] += messages_[k * most_ + i].number;
  }
  const Message<E>* of(int64_t k) const { return messages_.get() + k * most_; }
  int64_t count(int64_t k) const { return count_[k]; }
  E sum(int64_t k) const { return sum_[k]; }

 private:
  int64_t step(int axis, int64_t cells, int64_t row_step) const {
    return cells * job_.conv[axis].stride * (axis == 0 ? row_step : job_.channels);
  }

  const ConvPoolBackwardJob& job_;
  int64_t most_;
  Scratch<Message<E>> messages_;
  ValidCodes valid_;
  int64_t of_code_[256], count_[together];
  E sum_[together];
};

template <class E>
int64_t rows_of_messages(const ConvPoolJob& job, int64_t row_bytes) {
  constexpr int64_t room = 12 << 10, most_pixels = 256;  // more would leave the nearest cache, and round more
  const int64_t step = job.pool[0].stride * job.conv[0].stride * row_bytes;
  int64_t rows = room / (step > 0 ? step : 1);
  if (rows * job.pool[1].places > most_pixels) rows = most_pixels / job.pool[1].places;
  return rows < 1 ? 1 : rows > job.pool[0].places ? job.pool[0].places : rows;
}

template <class E>
void write_filters(const ConvPoolBackwardJob& job, const Chunks<E>& chunks, const E* sums, const E* bias, int64_t begin,
                   int64_t end) {
  for (int64_t k = begin; k < end; ++k) {
    const E* from = sums + (k - begin) * chunks.filter_size();
    E* to = static_cast<E*>(job.weight_grad) + k * job.weight_stride[0];
    for (int64_t r = 0; r < job.conv[0].kernel; ++r)
      for (int64_t s = 0; s < job.conv[1].kernel; ++s)
        for (int64_t c = 0; c < job.channels; ++c)
          to[c * job.weight_stride[1] + r * job.weight_stride[2] + s * job.weight_stride[3]] =
              from[r * chunks.row_size() + s * job.channels + c];
    if (job.bias_grad) static_cast<E*>(job.bias_grad)[k] = bias[k - begin];
  }
}

// Filters begin .. end - 1.
template <class E>
void conv_pool_weight_gradient(const ConvPoolBackwardJob& job, int64_t begin, int64_t end) {
  const Chunks<E> chunks(job, vectors_of_sums);
  Band<E> band(job, job.run() % lanes_of<E> == 0);
  const int64_t together = rows_of_messages<E>(job, band.row_bytes()), filters = end - begin;
  FilterMessages<E> messages(job, band.row_step(), together * job.pool[1].places);
  const Scratch<E> sums(filters * chunks.filter_size()), bias(filters);
  for (int64_t i = 0; i < filters * chunks.filter_size(); ++i) sums[i] = 0;
  for (int64_t k = 0; k < filters; ++k) bias[k] = 0;
  for (int64_t n = 0; n < job.batch; ++n)
    for (int64_t p = 0; p < job.pool[0].places; p += together) {
      const int64_t rows = p + together < job.pool[0].places ? together : job.pool[0].places - p;
      const int64_t first = conv_begin(job.pool[0], p), last = conv_end(job.pool[0], p + rows - 1);
      if (last <= first) continue;
      const E* patches = band.rows(n, first * job.conv[0].stride, (last - 1) * job.conv[0].stride + job.conv[0].kernel);
      for (int64_t k0 = 0; k0 < filters; k0 += messages.together) {
        const int64_t count = k0 + messages.together < filters ? messages.together : filters - k0;
        messages.read(n, p, rows, first, band.row_step(), begin + k0, count);
        for (int64_t k = 0; k < count; ++k) {
          E* filter = sums.get() + (k0 + k) * chunks.filter_size();
          for (int64_t c = 0; c < chunks.count(); ++c) {
            const Chunk& chunk = chunks[c];
            with_chunk<AddPatches, E, vectors_of_sums>(
                chunk, messages.of(k), messages.count(k),
                patches + chunk.row * band.row_step() + chunk.vector * lanes_of<E>, band.row_step(),
                filter + chunk.row * chunks.row_size() + chunk.vector * lanes_of<E>, chunks.row_size());
          }
          bias[k0 + k] += messages.sum(k);
        }
      }
    }
  write_filters(job, chunks, sums.get(), bias.get(), begin, end);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
