// The gradient of the input: each winner's patch receives its filter, times what came back.
//
// Each output of the convolution has a list of the filters that won there; a chunk of the output's patch stays in
// registers while they go by. Threads share out blocks of input rows; what a block's windows send beyond it is
// left to the neighbours, so nothing is added twice and the order of additions depends on nothing but the windows.
#pragma once

#include "conv_pool/chunks.h"
#include "conv_pool/messages.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// A chunk is small enough for a block of filters to stay near, and a list long enough to be worth loading it.
constexpr int vectors_of_patch = 10;

template <class E>
int64_t filters_of_block(const Chunks& chunks, int64_t filters) {
  constexpr int64_t room = 40 << 10, N = lanes_of<E>;
  int64_t most = 1;
  for (int64_t c = 0; c < chunks.count(); ++c) {
    if (chunks[c].units() > most) most = chunks[c].units();
  }
  const int64_t together = room / (most * vector_bytes), blocks = (filters + together - 1) / together;
  return rounded_up((filters + blocks - 1) / blocks, N);
}

// The messages of some convolution rows: for each output and block of filters a list.
template <class E>
class OutputMessages {
 public:
  static constexpr int N = lanes_of<E>;

  OutputMessages(const ConvPoolBackwardJob& job, int64_t filters_of_block, int64_t row_step)
      : job_(job),
        arrivals_(job),
        block_(filters_of_block),
        blocks_((job.filters + block_ - 1) / block_),
        row_step_(row_step),
        squares_(has_squares(job)),
        lists_(rows() * job.pool[1].size * blocks_, block_),
        outputs_(rows() * job.pool[1].size) {
    for (int lane = 0; lane < N; ++lane) lanes_[lane] = lane;
  }

  int64_t blocks() const { return blocks_; }

  // Rows that are read before they are sent: as many as make it worth loading all filters.
  int64_t rows() const {
    constexpr int64_t outputs = 192;
    return job_.pool[1].size < outputs ? outputs / job_.pool[1].size : 1;
  }
  void clear() { count_ = 0; }

  // Convolution row `row` of image n; patches are counted from `origin`, a padded row.
  void read(int64_t n, int64_t row, int64_t origin) {
    const int64_t start = (row * job_.conv[0].stride - origin) * row_step_;
    if (squares_) return read_squares(n, row, start);
    arrivals_.go_to_row(n, row);
    for (int64_t column = 0; column < job_.pool[1].size; ++column) {
      if (!arrivals_.go_to_column(column)) continue;
      for (int64_t b = 0; b < blocks_; ++b) read_block(b, count_ * blocks_ + b);
      outputs_[count_++] = start + column * job_.conv[1].stride * job_.channels;
    }
  }

  // Calls body(patch, messages) for each output that has messages from block b. Those of the first half and of the
  // second take turns: a patch that is read where the last one was just written waits until that has left the core.
  template <class F>
  SWITCHGRAD_INLINE void for_each(int64_t b, const F& body) const {
    const int64_t half = (count_ + 1) / 2;
    for (int64_t turn = 0; turn < 2 * half; ++turn) {
      const int64_t i = turn / 2 + turn % 2 * half;
      if (i >= count_) break;
      const Messages<E> messages = lists_[i * blocks_ + b];
      if (messages.count > 0) body(outputs_[i], messages);
    }
  }

 private:
  void read_block(int64_t b, int64_t list) {
    const int64_t begin = b * block_, end = begin + block_ < job_.filters ? begin + block_ : job_.filters;
    int64_t count = 0;
    for (int64_t k = begin; k < end; k += N)
      count = lists_.append(list, count, lanes_ + static_cast<Int<E>>(k), arrivals_.at(k, end - k));
    lists_.set_count(list, count);
  }

  // The same where windows are squares: neighbouring outputs are halves of one row of a window, which is read once.
  void read_squares(int64_t n, int64_t row, int64_t start) {
    const int64_t places = job_.pool[1].places, column_step = job_.conv[1].stride * job_.channels;
    if (row / 2 >= job_.pool[0].places) return;
    const int64_t first = (n * job_.pool[0].places + row / 2) * places;
    for (int64_t q = 0; q < places; ++q, start += 2 * column_step) {
      for (int64_t b = 0; b < blocks_; ++b)
        read_pair((first + q) * job_.filters, static_cast<Int<E>>(row % 2 * 2), b, count_ * blocks_ + b);
      outputs_[count_++] = start;
      outputs_[count_++] = start + column_step;
    }
  }
  void read_pair(int64_t window, Int<E> cell, int64_t b, int64_t list) {
    const int64_t begin = b * block_, end = begin + block_ < job_.filters ? begin + block_ : job_.filters;
    const auto left = broadcast<Int<E>, N>(cell), right = broadcast<Int<E>, N>(cell + 1);
    int64_t left_count = 0, right_count = 0;
    for (int64_t k = begin; k < end; k += N) {
      const auto codes = widen_codes<Int<E>, N, uint8_t>(load_first<N>(job_.codes + window + k, end - k));
      const auto grad = load_first<N>(static_cast<const E*>(job_.grad) + window + k, end - k);
      const auto filters = lanes_ + static_cast<Int<E>>(k);
      left_count = lists_.append(list, left_count, filters, select(codes == left, grad, Numbers<E>{}));
      right_count = lists_.append(list + blocks_, right_count, filters, select(codes == right, grad, Numbers<E>{}));
    }
    lists_.set_count(list, left_count);
    lists_.set_count(list + blocks_, right_count);
  }

  const ConvPoolBackwardJob& job_;
  Arrivals<E> arrivals_;
  int64_t block_, blocks_, row_step_;
  bool squares_;
  Lists<E> lists_;
  Scratch<int64_t> outputs_;
  int64_t count_ = 0;
  Places<E> lanes_;
};

template <class E, int R, int V>
struct AddFilters {
  static constexpr int N = lanes_of<E>;

  __attribute__((noinline)) static void run(const OutputMessages<E>& messages, int64_t block, const E* filters,
                                            E* patches, int64_t row_step, int64_t last_lanes) {
    messages.for_each(block, [&](int64_t where, const Messages<E>& list) __attribute__((always_inline)) {
      E* patch = patches + where;
      Vec<E, N> sum[R][V];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r, patch = next_row(patch, row_step))
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v)
          sum[r][v] =
              has_parts && v + 1 == V ? load_first<N>(patch + v * N, last_lanes) : load<Vec<E, N>>(patch + v * N);
      for (int64_t i = 0; i < list.count; ++i) {
        const E* filter = filters + static_cast<int64_t>(list.where[i]) * (R * V * N);
        const auto number = broadcast<E, N>(list.number[i]);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) sum[r][v] += number * load<Vec<E, N>>(filter + (r * V + v) * N);
      }
      patch = patches + where;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r, patch = next_row(patch, row_step)) {
#pragma GCC unroll 8
        for (int v = 0; v + 1 < V; ++v) store(patch + v * N, sum[r][v]);
        store_first<N>(patch + (V - 1) * N, sum[r][V - 1], last_lanes);
      }
    });
  }
};

template <class E>
int64_t packed_filters_size(const ConvPoolJob& job) {
  return job.filters * Chunks(job, vectors_of_patch, lanes_of<E>).filter_size();
}

// Chunk by chunk, in each filter by filter, so that a block of filters fills the caches evenly; the last vector of a
// run is padded with zeros.
template <class E>
void pack_filters(const ConvPoolJob& job, const FilterBank& bank, void* packed) {
  const Chunks chunks(job, vectors_of_patch, lanes_of<E>);
  const auto* weight = static_cast<const E*>(bank.weight);
  E* to = static_cast<E*>(packed);
  for (int64_t i = 0; i < chunks.count(); ++i)
    for (int64_t k = 0; k < job.filters; ++k)
      for (int64_t r = chunks[i].row; r < chunks[i].row + chunks[i].rows; ++r) {
        const int64_t first = chunks[i].column * lanes_of<E>, numbers = chunks[i].columns * lanes_of<E>;
        const E* row = weight + k * bank.stride[0] + r * bank.stride[2];
        int64_t s = first / job.channels, c = first % job.channels;
        for (int64_t n = 0; n < numbers; c = 0, ++s) {
          const int64_t count = job.channels - c < numbers - n ? job.channels - c : numbers - n;
          const E* from = row + c * bank.stride[1] + s * bank.stride[3];
          if (s >= job.conv[1].kernel)
            for (int64_t j = 0; j < count; ++j) to[n + j] = 0;
          else if (bank.stride[1] == 1)
            std::memcpy(to + n, from, static_cast<size_t>(count) * sizeof(E));
          else
            for (int64_t j = 0; j < count; ++j) to[n + j] = from[j * bank.stride[1]];
          n += count;
        }
        to += numbers;
      }
}

// How many padded input rows a block has: few enough for the second cache, the same however many threads there are.
template <class E>
int64_t rows_of_block(const ConvPoolJob& job) {
  constexpr int64_t room = 1 << 18;
  const int64_t width = job.conv[1].size + job.conv[1].pad_begin + job.conv[1].pad_end;
  const int64_t rows = room / (width * job.channels * static_cast<int64_t>(sizeof(E)));
  const int64_t least = 4 * job.conv[0].kernel;
  return rows < least ? least : rows;
}
template <class E>
int64_t input_blocks(const ConvPoolJob& job) {
  const int64_t rows = rows_of_block<E>(job);
  return job.batch * ((job.conv[0].size + rows - 1) / rows);
}

// A block of the gradient while it is summed: padded rows and columns, channel by channel, with room for patches that
// reach beyond the block. An image that is a block, has no padding and lies so already is summed where it is wanted.
template <class E>
class Block {
 public:
  Block(const ConvPoolBackwardJob& job, int64_t most_rows)
      : job_(job),
        width_(job.conv[1].size + job.conv[1].pad_begin + job.conv[1].pad_end),
        margin_(job.conv[0].kernel - 1),
        in_place_(most_rows == job.conv[0].size && is_unpadded(job.conv[0]) && is_unpadded(job.conv[1]) &&
                  lies_by_pixels() && job.grad_stride[2] == row_step() && (has_parts || job.run() % lanes_of<E> == 0)),
        sums_(in_place_ ? 0 : (most_rows + 2 * margin_) * row_step() + 2 * lanes_of<E>) {}

  int64_t row_step() const { return width_ * job_.channels; }

  // Padded rows begin .. end - 1 of image n.
  void clear(int64_t n, int64_t begin, int64_t end) {
    E* first = in_place_ ? row_of(n, begin) : sums_.get();
    const int64_t count = (end - begin) * row_step() + (in_place_ ? 0 : 2 * margin_ * row_step() + 2 * lanes_of<E>);
    std::memset(first, 0, static_cast<size_t>(count) * sizeof(E));
    begin_ = begin;
    rows_ = in_place_ ? first : first + margin_ * row_step();
  }
  E* at(int64_t row, int64_t column) const { return rows_ + (row - begin_) * row_step() + column * job_.channels; }

  void write(int64_t n, int64_t h_begin, int64_t h_end) const {
    if (in_place_) return;
    const int64_t channels = job_.channels, width = job_.conv[1].size;
    for (int64_t h = h_begin; h < h_end; ++h) {
      const E* from = at(h + job_.conv[0].pad_begin, job_.conv[1].pad_begin);
      E* to = row_of(n, h);
      if (lies_by_pixels()) {
        std::memcpy(to, from, static_cast<size_t>(width * channels) * sizeof(E));
        continue;
      }
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t w = 0; w < width; ++w)
          to[c * job_.grad_stride[1] + w * job_.grad_stride[3]] = from[w * channels + c];
    }
  }

 private:
  static bool is_unpadded(const Axis& axis) { return axis.pad_begin == 0 && axis.pad_end == 0; }
  bool lies_by_pixels() const { return job_.grad_stride[1] == 1 && job_.grad_stride[3] == job_.channels; }
  E* row_of(int64_t n, int64_t h) const {
    return static_cast<E*>(job_.input_grad) + n * job_.grad_stride[0] + h * job_.grad_stride[2];
  }

  const ConvPoolBackwardJob& job_;
  int64_t width_, margin_;
  bool in_place_;
  Scratch<E> sums_;
  E* rows_ = nullptr;
  int64_t begin_ = 0;
};

// Adds what the messages say to the patches of a block, which starts at `origin`.
template <class E>
void send(const ConvPoolBackwardJob& job, const Chunks& chunks, const OutputMessages<E>& messages, E* origin,
          int64_t row_step) {
  const auto* filters = static_cast<const E*>(job.weight);
  for (int64_t c = 0; c < chunks.count(); ++c) {
    const Chunk& chunk = chunks[c];
    for (int64_t b = 0; b < messages.blocks(); ++b)
      with_chunk<AddFilters, E, vectors_of_patch>(
          chunk, messages, b, filters, origin + chunks.in_patch(chunk, row_step), row_step, chunk.last_numbers);
    filters += job.filters * chunk.units() * lanes_of<E>;
  }
}

// Blocks begin .. end - 1; each is some rows of one image.
template <class E>
void conv_pool_input_gradient(const ConvPoolBackwardJob& job, int64_t begin, int64_t end) {
  const Chunks chunks(job, vectors_of_patch, lanes_of<E>);
  const Axis &y = job.conv[0], &pool = job.pool[0];
  const int64_t rows = rows_of_block<E>(job), blocks = (y.size + rows - 1) / rows;
  Block<E> block(job, rows < y.size ? rows : y.size);
  OutputMessages<E> messages(job, filters_of_block<E>(chunks, job.filters), block.row_step());
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / blocks, h_begin = item % blocks * rows;
    const int64_t h_end = h_begin + rows < y.size ? h_begin + rows : y.size;
    const int64_t first = h_begin + y.pad_begin, last = h_end + y.pad_begin;  // padded rows
    block.clear(n, first, last);
    // Convolution rows whose patch meets the block.
    const int64_t low = first < y.kernel ? 0 : (first - y.kernel) / y.stride + 1;
    const int64_t high = (last - 1) / y.stride + 1 < pool.size ? (last - 1) / y.stride + 1 : pool.size;
    for (int64_t row = low; row < high; row += messages.rows()) {
      messages.clear();
      for (int64_t i = row; i < row + messages.rows() && i < high; ++i) messages.read(n, i, first);
      send(job, chunks, messages, block.at(first, 0), block.row_step());
    }
    block.write(n, h_begin, h_end);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
