// The gradient of the input: each winner's patch receives its filter, times what came back.
//
// The winners of a window are sorted by the convolution output that they won; a chunk of that output's patch stays in
// registers while the filters go by. Threads share out blocks of input rows; what a block's windows send beyond it is
// left to the neighbours, so nothing is added twice and the order of additions depends on nothing but the windows.
#pragma once

#include "conv_pool/chunks.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// A chunk is small enough for a block of filters to stay in the nearest cache beside it.
constexpr int vectors_of_patch = 12;

template <class E>
int64_t filters_of_block(const Chunks& chunks, int64_t filters) {
  constexpr int64_t room = 20 << 10;
  int64_t most = 1;
  for (int64_t c = 0; c < chunks.count(); ++c) {
    const int64_t vectors = chunks[c].rows * chunks[c].columns;
    if (vectors > most) most = vectors;
  }
  const int64_t together = room / (most * vector_bytes), blocks = (filters + together - 1) / together;
  return (filters + blocks - 1) / blocks;
}

// The messages of some pooled cells by cell of the batch, block of filters and cell of the window: a list for each.
template <class E>
class SortedMessages {
 public:
  SortedMessages(const ConvPoolBackwardJob& job, int64_t filter_size, int64_t filters_of_block, int64_t row_step)
      : job_(job),
        valid_(job),
        lists_(valid_.cells() + 1),
        block_(filters_of_block),
        blocks_((job.filters + filters_of_block - 1) / filters_of_block),
        filter_size_(filter_size),
        row_step_(row_step),
        most_(pixels_together(lists_ * blocks_ * block_)),
        messages_(most_ * blocks_ * lists_ * block_),
        count_(most_ * blocks_ * lists_),
        patches_(most_ * valid_.cells()) {}

  int64_t most() const { return most_; }
  int64_t blocks() const { return blocks_; }
  void clear() { pixels_ = 0; }

  // The window at pooled row p, column q of image n; convolution rows low .. high - 1 take part. Patches are counted
  // from `origin`, a padded row.
  void add(int64_t n, int64_t p, int64_t q, int64_t low, int64_t high, int64_t origin) {
    const Axis &y = job_.pool[0], &x = job_.pool[1];
    const int64_t pixel = (n * y.places + p) * x.places + q, cells = valid_.cells();
    const E* grad = static_cast<const E*>(job_.grad) + pixel * job_.filters;
    const uint8_t* codes = job_.codes + pixel * job_.filters;
    const uint8_t* valid = valid_.of(p, q, low, high);
    for (int64_t cell = 0; cell < cells; ++cell)
      patches_[pixels_ * cells + cell] =
          ((y.start(p) + cell / x.kernel * y.dilation) * job_.conv[0].stride - origin) * row_step_ +
          (x.start(q) + cell % x.kernel * x.dilation) * job_.conv[1].stride * job_.channels;
    for (int64_t b = 0; b < blocks_; ++b) {
      const int64_t begin = b * block_, end = begin + block_ < job_.filters ? begin + block_ : job_.filters;
      sort(grad, codes, valid, begin, end, (pixels_ * blocks_ + b) * lists_);
    }
    ++pixels_;
  }

  // Calls body(patch, messages, count) for each cell of each window that has messages from block b.
  template <class F>
  SWITCHGRAD_INLINE void for_each(int64_t b, const F& body) const {
    const int64_t cells = valid_.cells();
    for (int64_t pixel = 0; pixel < pixels_; ++pixel) {
      const int64_t list = (pixel * blocks_ + b) * lists_;
      for (int64_t cell = 0; cell < cells; ++cell)
        if (count_[list + cell] > 0)
          body(patches_[pixel * cells + cell], messages_.get() + (list + cell) * block_, count_[list + cell]);
    }
  }

 private:
  static int64_t pixels_together(int64_t messages_of_pixel) {
    constexpr int64_t room = 1 << 14;
    const int64_t pixels = room / messages_of_pixel;
    return pixels < 8 ? 8 : pixels > 64 ? 64 : pixels;
  }

  // What has no winner goes to a last list, which nobody reads: a branch here would be taken at random.
  void sort(const E* grad, const uint8_t* codes, const uint8_t* valid, int64_t begin, int64_t end, int64_t list) {
    const int64_t cells = valid_.cells();
    int32_t* count = count_.get() + list;
    Message<E>* messages = messages_.get() + list * block_;
    for (int64_t cell = 0; cell <= cells; ++cell) count[cell] = 0;
    for (int64_t k = begin; k < end; ++k) {
      const int64_t code = codes[k];
      const int64_t arrives = static_cast<int64_t>(valid[code]) & static_cast<int64_t>(grad[k] != 0);
      const int64_t slot = cells + (code - cells) * arrives;
      messages[slot * block_ + count[slot]++] = {static_cast<int32_t>(k * filter_size_), grad[k]};
    }
  }

  const ConvPoolBackwardJob& job_;
  ValidCodes valid_;
  int64_t lists_, block_, blocks_, filter_size_, row_step_, most_;
  Scratch<Message<E>> messages_;
  Scratch<int32_t> count_;
  Scratch<int64_t> patches_;
  int64_t pixels_ = 0;
};

template <class E, int R, int V>
struct AddFilters {
  static constexpr int N = lanes_of<E>;

  static void run(const SortedMessages<E>& messages, int64_t block, const E* filters, int64_t filter_row, E* patches,
                  int64_t row_step, int64_t last_lanes) {
    messages.for_each(block, [&](int64_t where, const Message<E>* list, int64_t count) {
      E* patch = patches + where;
      Vec<E, N> sum[R][V];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[r][v] = load<Vec<E, N>>(patch + r * row_step + v * N);
      for (int64_t i = 0; i < count; ++i) {
        const E* filter = filters + list[i].where;
        const auto number = broadcast<E, N>(list[i].number);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) sum[r][v] += number * load<Vec<E, N>>(filter + r * filter_row + v * N);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v + 1 < V; ++v) store(patch + r * row_step + v * N, sum[r][v]);
        store_first<N>(patch + r * row_step + (V - 1) * N, sum[r][V - 1], last_lanes);
      }
    });
  }
};

template <class E>
int64_t packed_filters_size(const ConvPoolJob& job) {
  return job.filters * Chunks(job, vectors_of_patch, lanes_of<E>).filter_size();
}

// Filter by filter, its rows padded with zeros to whole vectors.
template <class E>
void pack_filters(const ConvPoolJob& job, const FilterBank& bank, void* packed) {
  const Chunks chunks(job, vectors_of_patch, lanes_of<E>);
  const auto* weight = static_cast<const E*>(bank.weight);
  E* to = static_cast<E*>(packed);
  for (int64_t k = 0; k < job.filters; ++k)
    for (int64_t r = 0; r < job.conv[0].kernel; ++r) {
      for (int64_t s = 0; s < job.conv[1].kernel; ++s)
        for (int64_t c = 0; c < job.channels; ++c)
          *to++ = weight[k * bank.stride[0] + c * bank.stride[1] + r * bank.stride[2] + s * bank.stride[3]];
      for (int64_t i = job.run(); i < chunks.row_size(); ++i) *to++ = 0;
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
// reach beyond the block.
template <class E>
class Block {
 public:
  Block(const ConvPoolBackwardJob& job, int64_t most_rows)
      : job_(job),
        width_(job.conv[1].size + job.conv[1].pad_begin + job.conv[1].pad_end),
        margin_(job.conv[0].kernel - 1),
        sums_((most_rows + 2 * margin_) * width_ * job.channels + 2 * lanes_of<E>) {}

  int64_t row_step() const { return width_ * job_.channels; }
  int64_t margin() const { return margin_; }

  // Padded rows begin .. end - 1.
  void clear(int64_t begin, int64_t end) {
    begin_ = begin;
    const int64_t count = (end - begin + 2 * margin_) * row_step() + 2 * lanes_of<E>;
    std::memset(sums_.get(), 0, static_cast<size_t>(count) * sizeof(E));
  }
  E* at(int64_t row, int64_t column) const {
    return sums_.get() + (row - begin_ + margin_) * row_step() + column * job_.channels;
  }

  void write(int64_t n, int64_t h_begin, int64_t h_end) const {
    const int64_t channels = job_.channels, width = job_.conv[1].size;
    for (int64_t h = h_begin; h < h_end; ++h) {
      const E* from = at(h + job_.conv[0].pad_begin, job_.conv[1].pad_begin);
      E* to = static_cast<E*>(job_.input_grad) + n * job_.grad_stride[0] + h * job_.grad_stride[2];
      if (job_.grad_stride[1] == 1 && job_.grad_stride[3] == channels) {
        std::memcpy(to, from, static_cast<size_t>(width * channels) * sizeof(E));
        continue;
      }
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t w = 0; w < width; ++w)
          to[c * job_.grad_stride[1] + w * job_.grad_stride[3]] = from[w * channels + c];
    }
  }

 private:
  const ConvPoolBackwardJob& job_;
  int64_t width_, margin_;
  Scratch<E> sums_;
  int64_t begin_ = 0;
};

// Adds what the messages say to the patches of a block, which starts at `origin`.
template <class E>
void send(const ConvPoolBackwardJob& job, const Chunks& chunks, const SortedMessages<E>& messages, E* origin,
          int64_t row_step) {
  const auto* filters = static_cast<const E*>(job.weight);
  for (int64_t c = 0; c < chunks.count(); ++c) {
    const Chunk& chunk = chunks[c];
    for (int64_t b = 0; b < messages.blocks(); ++b)
      with_chunk<AddFilters, E, vectors_of_patch>(chunk, messages, b, filters + chunks.in_filter(chunk),
                                                  chunks.row_size(), origin + chunks.in_patch(chunk, row_step),
                                                  row_step, chunk.last_numbers);
  }
}

// Blocks begin .. end - 1; each is some rows of one image.
template <class E>
void conv_pool_input_gradient(const ConvPoolBackwardJob& job, int64_t begin, int64_t end) {
  const Chunks chunks(job, vectors_of_patch, lanes_of<E>);
  const Axis &y = job.conv[0], &pool = job.pool[0];
  const int64_t rows = rows_of_block<E>(job), blocks = (y.size + rows - 1) / rows;
  Block<E> block(job, rows < y.size ? rows : y.size);
  SortedMessages<E> messages(job, chunks.filter_size(), filters_of_block<E>(chunks, job.filters), block.row_step());
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / blocks, h_begin = item % blocks * rows;
    const int64_t h_end = h_begin + rows < y.size ? h_begin + rows : y.size;
    const int64_t first = h_begin + y.pad_begin, last = h_end + y.pad_begin;  // padded rows
    block.clear(first, last);
    // Convolution rows whose patch meets the block.
    const int64_t low = first < y.kernel ? 0 : (first - y.kernel) / y.stride + 1;
    const int64_t high = (last - 1) / y.stride + 1 < pool.size ? (last - 1) / y.stride + 1 : pool.size;
    const int64_t p_begin = low < high ? pool.covering_begin(low) : 0;
    const int64_t p_end = low < high ? pool.covering_end(high - 1) : 0;
    const int64_t places = job.pool[1].places, pixels = (p_end - p_begin) * places;
    for (int64_t i = 0; i < pixels; i += messages.most()) {
      messages.clear();
      for (int64_t j = i; j < i + messages.most() && j < pixels; ++j)
        messages.add(n, p_begin + j / places, j % places, low, high, first);
      send(job, chunks, messages, block.at(first, 0), block.row_step());
    }
    block.write(n, h_begin, h_end);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
