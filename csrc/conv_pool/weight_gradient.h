// The gradient of the weights: for each filter, the patches of its winners, each times what came back, summed.
//
// A chunk of the filter stays in registers while its winners go by, so nothing but the patches is read. Sums are taken
// over a band of an image, then over the bands of a part of the batch, then over the parts, in one order whatever the
// threads do: they share out parts and filters.
#pragma once

#include "conv_pool/chunks.h"
#include "conv_pool/messages.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// A chunk, the number that multiplies and a load share the registers.
constexpr int vectors_of_sums = vector_bytes == 64 ? 24 : 12;

template <class E, int R, int V>
struct AddPatches {
  static constexpr int N = lanes_of<E>;

  __attribute__((noinline)) static void run(const Messages<E>& messages, const E* patches, int64_t row_step, E* filter,
                                            int64_t filter_row) {
    Vec<E, N> sum[R][V] = {};
    for (int64_t i = 0; i < messages.count; ++i) {
      const E* row = patches + messages.where[i];
      const auto number = broadcast<E, N>(messages.number[i]);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r, row = next_row(row, row_step))
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[r][v] += number * load<Vec<E, N>>(row + v * N);
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

// The messages of some rows of one image, for N filters at a time: a message from each window.
template <class E>
class WindowMessages {
 public:
  static constexpr int N = lanes_of<E>;
  using Lane = Int<E>;

  WindowMessages(const ConvPoolBackwardJob& job, int64_t row_step, int64_t most_rows)
      : job_(job),
        windows_(rounded_up(most_rows * job.pool[1].places, N)),
        lists_(N, rounded_up(most_rows * job.pool[1].places, N)) {
    row_step_ = job.conv[0].stride * row_step;
    column_step_ = job.conv[1].stride * job.channels;
  }

  // Pooled rows p .. p + rows - 1 of image n, whose band starts at convolution row `first_row`.
  void go_to(int64_t n, int64_t p, int64_t rows, int64_t first_row) {
    const Axis &y = job_.pool[0], &x = job_.pool[1];
    first_pixel_ = (n * y.places + p) * x.places;
    pixels_ = 0;
    for (int64_t i = p; i < p + rows; ++i)
      for (int64_t q = 0; q < x.places; ++q)
        windows_[pixels_++] = {lane((y.start(i) - first_row) * row_step_ + x.start(q) * column_step_), lane(y.first(i)),
                               lane(y.last(i)), lane(x.first(q)), lane(x.last(q))};
    for (int64_t i = pixels_; i % N != 0; ++i) windows_[i] = {};  // no cell: nobody wins
  }

  // Of filters k .. k + filters - 1, at most N.
  void read(int64_t k, int64_t filters) {
    for (int64_t i = 0; i < filters; ++i) lists_.set_count(i, 0);
    for (int64_t first = 0; first < pixels_; first += N) {
      Places<E> where[N];
      Numbers<E> number[N];
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) read_pixel(first + i, k, filters, where[i], number[i]);
      turn_over<Lane, N>(where);
      turn_over<E, N>(number);
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i)
        if (i < filters) lists_.set_count(i, lists_.append(i, lists_.count(i), where[i], number[i]));
    }
  }
  Messages<E> operator[](int64_t i) const { return lists_[i]; }

 private:
  struct Window {
    Lane where, row_begin, row_end, column_begin, column_end;  // of its first cell; those within the output
  };
  static Lane lane(int64_t number) { return static_cast<Lane>(number); }

  SWITCHGRAD_INLINE void read_pixel(int64_t i, int64_t k, int64_t filters, Places<E>& where, Numbers<E>& number) const {
    const Axis &y = job_.pool[0], &x = job_.pool[1];
    const int64_t at = (first_pixel_ + (i < pixels_ ? i : pixels_ - 1)) * job_.filters + k;
    const Window& window = windows_[i];
    const auto codes = widen_codes<Lane, N, uint8_t>(load_first<N>(job_.codes + at, filters));
    const Places<E> row = (codes * lane((1 << 16) / x.kernel + 1)) >> 16, column = codes - row * lane(x.kernel);
    const auto inside = (row >= window.row_begin) & (row < window.row_end) & (column >= window.column_begin) &
                        (column < window.column_end);
    where = row * lane(y.dilation * row_step_) + column * lane(x.dilation * column_step_) + window.where;
    number = select(inside, load_first<N>(static_cast<const E*>(job_.grad) + at, filters), Numbers<E>{});
  }

  const ConvPoolBackwardJob& job_;
  int64_t row_step_, column_step_, first_pixel_ = 0, pixels_ = 0;
  Scratch<Window> windows_;
  Lists<E> lists_;
};

// The same where windows overlap: a message from each convolution output that won any, with the sum of what came back.
template <class E>
class OverlapMessages {
 public:
  static constexpr int N = lanes_of<E>;
  using Lane = Int<E>;

  OverlapMessages(const ConvPoolBackwardJob& job, int64_t row_step, int64_t most_rows)
      : job_(job),
        arrivals_(job),
        row_step_(job.conv[0].stride * row_step),
        column_step_(job.conv[1].stride * job.channels),
        lists_(N, most_rows * rounded_up(job.pool[1].size, N)) {
    for (int lane = 0; lane < N; ++lane) columns_[lane] = static_cast<Lane>(lane * column_step_);
  }

  // Convolution rows `row` .. row + rows - 1 of image n, whose band starts there.
  void go_to(int64_t n, int64_t row, int64_t rows, int64_t) {
    image_ = n;
    row_ = row;
    rows_ = rows;
  }

  // Of filters k .. k + filters - 1, at most N.
  void read(int64_t k, int64_t filters) {
    for (int64_t i = 0; i < filters; ++i) lists_.set_count(i, 0);
    for (int64_t row = 0; row < rows_; ++row) {
      arrivals_.go_to_row(image_, row_ + row);
      for (int64_t column = 0; column < job_.pool[1].size; column += N)
        read_outputs(static_cast<Lane>(row * row_step_ + column * column_step_), column, k, filters);
    }
  }
  Messages<E> operator[](int64_t i) const { return lists_[i]; }

 private:
  void read_outputs(Lane first, int64_t column, int64_t k, int64_t filters) {
    Numbers<E> number[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i)
      number[i] = column + i < job_.pool[1].size && arrivals_.go_to_column(column + i) ? arrivals_.at(k, filters)
                                                                                       : Numbers<E>{};
    turn_over<E, N>(number);
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i)
      if (i < filters) lists_.set_count(i, lists_.append(i, lists_.count(i), columns_ + first, number[i]));
  }

  const ConvPoolBackwardJob& job_;
  Arrivals<E> arrivals_;
  int64_t row_step_, column_step_, image_ = 0, row_ = 0, rows_ = 0;
  Lists<E> lists_;
  Places<E> columns_;
};

// Rows of a band, of which each moves it by `step` bytes and has some messages for a filter: few enough rows for their
// patches to stay in the nearest cache and for a sum not to lose digits, and enough for a filter's sums to be worth
// loading.
inline int64_t rows_of_band(int64_t step, int64_t messages, int64_t all) {
  constexpr int64_t room = 12 << 10, most_room = 48 << 10, least = 24, most = 256;
  int64_t rows = room / (step + 1);
  if (rows * messages < least) rows = (least + messages - 1) / messages;
  if (rows * step > most_room) rows = most_room / step;
  if (rows * messages > most) rows = most / messages;
  return rows < 1 ? 1 : rows > all ? all : rows;
}

inline bool windows_overlap(const ConvPoolJob& job) { return job.pool[0].overlaps() || job.pool[1].overlaps(); }

// Pooled rows of a band, and convolution rows where windows overlap.
inline int64_t rows_of_windows(const ConvPoolJob& job, int64_t row_bytes) {
  return rows_of_band(job.pool[0].stride * job.conv[0].stride * row_bytes, job.pool[1].places, job.pool[0].places);
}
inline int64_t rows_of_outputs(const ConvPoolJob& job, int64_t row_bytes) {
  const int64_t stride = job.pool[0].stride;
  return rows_of_band(job.conv[0].stride * row_bytes, (job.pool[1].places + stride - 1) / stride,
                      conv_end(job.pool[0], job.pool[0].places - 1));
}

// What a thread sums up at a time: some filters over one part of the batch. Sums of a filter are its taps, each row of
// them padded to whole vectors, and the bias.
template <class E>
struct Share {
  int64_t first_image, end_image, begin, end;  // filters begin .. end - 1
  E* sums;                                     // of the first filter
  int64_t step;                                // from filter to filter
};

template <class E>
int64_t row_of_sums(const ConvPoolJob& job) {
  return rounded_up(job.run(), lanes_of<E>);
}
template <class E>
int64_t sums_of_filter(const ConvPoolJob& job) {
  return job.conv[0].kernel * row_of_sums<E>(job) + lanes_of<E>;
}

// Parts of the batch: each thread then reads its own images alone, and does not share out the lanes of a vector. Their
// number depends on the sizes alone; many sums would take longer to add up than they save.
template <class E>
int64_t weight_parts(const ConvPoolJob& job) {
  constexpr int64_t room = 320 << 10, most = 16;
  const int64_t fit = room / (job.filters * sums_of_filter<E>(job) * static_cast<int64_t>(sizeof(E)));
  const int64_t parts = fit < most ? fit : most;
  return parts < 1 || job.batch < 1 ? 1 : parts < job.batch ? parts : job.batch;
}
template <class E>
int64_t weight_sums_size(const ConvPoolJob& job) {
  return weight_parts<E>(job) * job.filters * sums_of_filter<E>(job);
}

// The gradient of the bias: what came back through the filters of a share, image by image.
template <class E>
void bias_gradient(const ConvPoolBackwardJob& job, const Share<E>& share) {
  constexpr int N = lanes_of<E>;
  using Lane = Int<E>;
  const int64_t pixels = job.pool[0].places * job.pool[1].places, place = share.step - N;
  const auto cells = broadcast<Lane, N>(static_cast<Lane>(job.pool[0].kernel * job.pool[1].kernel));
  for (int64_t k = share.begin; k < share.end; k += N) {
    const int64_t filters = share.end - k;
    Vec<E, N> total{};
    for (int64_t n = share.first_image; n < share.end_image; ++n) {
      Vec<E, N> sum{};
      for (int64_t i = n * pixels; i < (n + 1) * pixels; ++i) {
        const int64_t at = i * job.filters + k;
        const auto codes = widen_codes<Lane, N, uint8_t>(load_first<N>(job.codes + at, filters));
        sum += select(codes < cells, load_first<N>(static_cast<const E*>(job.grad) + at, filters), Vec<E, N>{});
      }
      total += sum;
    }
    E lanes[N];
    store(lanes, total);
    for (int64_t i = 0; i < filters && i < N; ++i) share.sums[(k - share.begin + i) * share.step + place] = lanes[i];
  }
}

// The sums of filter k, its taps in the order of a run, to where they are wanted.
template <class E>
void write_filter(const ConvPoolBackwardJob& job, int64_t k, const E* sums) {
  E* to = static_cast<E*>(job.weight_grad) + k * job.weight_stride[0];
  for (int64_t r = 0; r < job.conv[0].kernel; ++r, sums += row_of_sums<E>(job))
    for (int64_t s = 0; s < job.conv[1].kernel; ++s)
      for (int64_t c = 0; c < job.channels; ++c)
        to[c * job.weight_stride[1] + r * job.weight_stride[2] + s * job.weight_stride[3]] = sums[s * job.channels + c];
}

// Adds up the parts of filters begin .. end - 1, part by part.
template <class E>
void finish_weights(const ConvPoolBackwardJob& job, int64_t begin, int64_t end) {
  constexpr int N = lanes_of<E>;
  const int64_t size = sums_of_filter<E>(job), parts = weight_parts<E>(job);
  for (int64_t k = begin; k < end; ++k) {
    E* total = static_cast<E*>(job.weight_sums) + k * size;
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t i = 0; i < size; i += N)
        store(total + i, static_cast<Vec<E, N>>(load<Vec<E, N>>(total + i) +
                                                load<Vec<E, N>>(total + part * job.filters * size + i)));
    write_filter(job, k, total);
    if (job.bias_grad) static_cast<E*>(job.bias_grad)[k] = total[size - N];
  }
}

// Calls body(n, p, rows, first convolution row, rows of patches, patches) for bands of pooled rows of a share's images.
template <class E, class F>
void for_each_band(const ConvPoolBackwardJob& job, const Share<E>& share, Band<E>& band, int64_t together,
                   const F& body) {
  for (int64_t n = share.first_image; n < share.end_image; ++n)
    for (int64_t p = 0; p < job.pool[0].places; p += together) {
      const int64_t rows = p + together < job.pool[0].places ? together : job.pool[0].places - p;
      const int64_t first = conv_begin(job.pool[0], p), last = conv_end(job.pool[0], p + rows - 1);
      const int64_t begin = first * job.conv[0].stride, end = (last - 1) * job.conv[0].stride + job.conv[0].kernel;
      if (last > first) body(n, p, rows, first, end - begin, band.rows(n, begin, end));
    }
}

// The same for bands of convolution rows.
template <class E, class F>
void for_each_band_of_outputs(const ConvPoolBackwardJob& job, const Share<E>& share, Band<E>& band, int64_t together,
                              const F& body) {
  const int64_t end = conv_end(job.pool[0], job.pool[0].places - 1), stride = job.conv[0].stride;
  for (int64_t n = share.first_image; n < share.end_image; ++n)
    for (int64_t row = 0; row < end; row += together) {
      const int64_t rows = row + together < end ? together : end - row;
      const int64_t seen = (rows - 1) * stride + job.conv[0].kernel;
      body(n, row, rows, row, seen, band.rows(n, row * stride, row * stride + seen));
    }
}

// Adds to the sums of a share what the messages of one band say.
template <class E, class AllMessages>
void add_band(AllMessages& messages, const Chunks& chunks, const E* patches, int64_t row_step, const Share<E>& share) {
  constexpr int N = lanes_of<E>;
  for (int64_t k = share.begin; k < share.end; k += N) {
    const int64_t filters = share.end - k < N ? share.end - k : N;
    messages.read(k, filters);
    for (int64_t c = 0; c < chunks.count(); ++c)
      for (int64_t i = 0; i < filters; ++i)
        with_chunk<AddPatches, E, vectors_of_sums>(
            chunks[c], messages[i], patches + chunks.in_patch(chunks[c], row_step), row_step,
            share.sums + (k + i - share.begin) * share.step + chunks.in_filter(chunks[c]), chunks.row_size());
  }
}

template <class E>
void weight_gradient_by_winners(const ConvPoolBackwardJob& job, const Share<E>& share) {
  const Chunks chunks(job, vectors_of_sums, lanes_of<E>);
  Band<E> band(job, job.run() % lanes_of<E> == 0);
  const auto add = [&](auto& messages) {
    return [&](int64_t n, int64_t place, int64_t rows, int64_t first, int64_t, const E* patches) {
      messages.go_to(n, place, rows, first);
      add_band<E>(messages, chunks, patches, band.row_step(), share);
    };
  };
  if (windows_overlap(job)) {
    const int64_t together = rows_of_outputs(job, band.row_bytes());
    OverlapMessages<E> messages(job, band.row_step(), together);
    for_each_band_of_outputs(job, share, band, together, add(messages));
  } else {
    const int64_t together = rows_of_windows(job, band.row_bytes());
    WindowMessages<E> messages(job, band.row_step(), together);
    for_each_band(job, share, band, together, add(messages));
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
