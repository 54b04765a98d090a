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

// The messages of some pooled rows of one image, filter by filter.
template <class E>
class FilterMessages {
 public:
  FilterMessages(const ConvPoolBackwardJob& job, int64_t row_step, int64_t most_pixels)
      : job_(job), valid_(job), windows_(most_pixels), inside_(most_pixels), messages_(most_pixels + 1) {
    const Axis &y = job.pool[0], &x = job.pool[1];
    row_step_ = job.conv[0].stride * row_step;
    column_step_ = job.conv[1].stride * job.channels;
    for (int64_t code = 0; code < 256; ++code)
      of_code_[code] = code < valid_.cells() ? static_cast<int32_t>(code / x.kernel * y.dilation * row_step_ +
                                                                    code % x.kernel * x.dilation * column_step_)
                                             : 0;
  }

  // Pooled rows p .. p + rows - 1 of image n, whose band starts at convolution row `first_row`.
  void go_to(int64_t n, int64_t p, int64_t rows, int64_t first_row) {
    const Axis &y = job_.pool[0], &x = job_.pool[1];
    first_pixel_ = (n * y.places + p) * x.places;
    first_place_ = p;
    pixels_ = 0;
    all_inside_ = true;
    for (int64_t i = p; i < p + rows; ++i)
      for (int64_t q = 0; q < x.places; ++q, ++pixels_) {
        windows_[pixels_] = static_cast<int32_t>((y.start(i) - first_row) * row_step_ + x.start(q) * column_step_);
        inside_[pixels_] = valid_.all(i, q);
        all_inside_ &= inside_[pixels_] != 0;
      }
  }

  void read(int64_t filter) {
    if (all_inside_) return collect(filter, [](int64_t, uint8_t) { return true; });
    collect(filter, [this](int64_t pixel, uint8_t code) { return inside_[pixel] || is_valid(pixel, code); });
  }
  const Message<E>* begin() const { return messages_.get(); }
  int64_t count() const { return count_; }

 private:
  // Without branches where all windows lie inside: which messages arrive is as good as random.
  template <class F>
  SWITCHGRAD_INLINE void collect(int64_t filter, const F& is_inside) {
    const E* grad = static_cast<const E*>(job_.grad) + first_pixel_ * job_.filters + filter;
    const uint8_t* codes = job_.codes + first_pixel_ * job_.filters + filter;
    const int64_t cells = valid_.cells();
    Message<E>* const messages = messages_.get();
    int64_t count = 0;
    for (int64_t i = 0; i < pixels_; ++i) {
      const int64_t code = codes[i * job_.filters];
      const E number = grad[i * job_.filters];
      messages[count] = {windows_[i] + of_code_[code], number};
      count += static_cast<int64_t>(code < cells) & static_cast<int64_t>(number != 0) &
               static_cast<int64_t>(is_inside(i, static_cast<uint8_t>(code)));
    }
    count_ = count;
  }

  bool is_valid(int64_t pixel, uint8_t code) {
    const int64_t places = job_.pool[1].places;
    return valid_.of(first_place_ + pixel / places, pixel % places, 0, job_.pool[0].size)[code];
  }

  const ConvPoolBackwardJob& job_;
  ValidCodes valid_;
  int64_t row_step_, column_step_, first_pixel_ = 0, first_place_ = 0, pixels_ = 0, count_ = 0;
  Scratch<int32_t> windows_;
  Scratch<uint8_t> inside_;
  Scratch<Message<E>> messages_;
  int32_t of_code_[256];
  bool all_inside_ = true;
};

// Pooled rows of a band: few enough for their patches to stay in the nearest cache and for a sum not to lose digits,
// and enough for a filter's sums to be worth loading.
template <class E>
int64_t rows_of_messages(const ConvPoolJob& job, int64_t row_bytes) {
  constexpr int64_t room = 12 << 10, most_room = 48 << 10, least_pixels = 24, most_pixels = 256;
  const int64_t step = job.pool[0].stride * job.conv[0].stride * row_bytes + 1, places = job.pool[1].places;
  int64_t rows = room / step;
  if (rows * places < least_pixels) rows = (least_pixels + places - 1) / places;
  if (rows * step > most_room) rows = most_room / step;
  if (rows * places > most_pixels) rows = most_pixels / places;
  return rows < 1 ? 1 : rows > job.pool[0].places ? job.pool[0].places : rows;
}

// The gradient of the bias: what came back through filters begin .. end - 1, image by image.
template <class E>
void bias_gradient(const ConvPoolBackwardJob& job, int64_t begin, int64_t end) {
  constexpr int N = lanes_of<E>;
  using Lane = Int<E>;
  const int64_t pixels = job.pool[0].places * job.pool[1].places;
  const auto cells = broadcast<Lane, N>(static_cast<Lane>(job.pool[0].kernel * job.pool[1].kernel));
  for (int64_t k = begin; k < end; k += N) {
    Vec<E, N> total{};
    for (int64_t n = 0; n < job.batch; ++n) {
      Vec<E, N> sum{};
      for (int64_t i = n * pixels; i < (n + 1) * pixels; ++i) {
        const int64_t at = i * job.filters + k;
        const auto codes = widen_codes<Lane, N, uint8_t>(load_first<N>(job.codes + at, end - k));
        sum += select(codes < cells, load_first<N>(static_cast<const E*>(job.grad) + at, end - k), Vec<E, N>{});
      }
      total += sum;
    }
    store_first<N>(static_cast<E*>(job.bias_grad) + k, total, end - k);
  }
}

// The sums of filter k, its taps in the order of a run, to where they are wanted.
template <class E>
void write_filter(const ConvPoolBackwardJob& job, int64_t k, const E* sums, int64_t row_size, int64_t step) {
  E* to = static_cast<E*>(job.weight_grad) + k * job.weight_stride[0];
  for (int64_t r = 0; r < job.conv[0].kernel; ++r)
    for (int64_t s = 0; s < job.conv[1].kernel; ++s)
      for (int64_t c = 0; c < job.channels; ++c)
        to[c * job.weight_stride[1] + r * job.weight_stride[2] + s * job.weight_stride[3]] =
            sums[(r * row_size + s * job.channels + c) * step];
}

// Calls body(n, p, rows, first convolution row, patches) for bands of pooled rows.
template <class E, class F>
void for_each_band(const ConvPoolBackwardJob& job, Band<E>& band, int64_t together, const F& body) {
  for (int64_t n = 0; n < job.batch; ++n)
    for (int64_t p = 0; p < job.pool[0].places; p += together) {
      const int64_t rows = p + together < job.pool[0].places ? together : job.pool[0].places - p;
      const int64_t first = conv_begin(job.pool[0], p), last = conv_end(job.pool[0], p + rows - 1);
      if (last > first)
        body(n, p, rows, first,
             band.rows(n, first * job.conv[0].stride, (last - 1) * job.conv[0].stride + job.conv[0].kernel));
    }
}

// Filters begin .. end - 1.
template <class E>
void weight_gradient_by_winners(const ConvPoolBackwardJob& job, int64_t begin, int64_t end) {
  const Chunks chunks(job, vectors_of_sums, lanes_of<E>);
  Band<E> band(job, job.run() % lanes_of<E> == 0);
  const int64_t together = rows_of_messages<E>(job, band.row_bytes()), size = chunks.filter_size();
  FilterMessages<E> messages(job, band.row_step(), together * job.pool[1].places);
  const Scratch<E> sums((end - begin) * size);
  for (int64_t i = 0; i < (end - begin) * size; ++i) sums[i] = 0;
  for_each_band(job, band, together, [&](int64_t n, int64_t p, int64_t rows, int64_t first, const E* patches) {
    messages.go_to(n, p, rows, first);
    for (int64_t k = begin; k < end; ++k) {
      messages.read(k);
      for (int64_t c = 0; c < chunks.count(); ++c)
        with_chunk<AddPatches, E, vectors_of_sums>(
            chunks[c], messages.begin(), messages.count(), patches + chunks.in_patch(chunks[c], band.row_step()),
            band.row_step(), sums.get() + (k - begin) * size + chunks.in_filter(chunks[c]), chunks.row_size());
    }
  });
  for (int64_t k = begin; k < end; ++k) write_filter(job, k, sums.get() + (k - begin) * size, chunks.row_size(), 1);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
