// A filter's taps as vectors: R rows of a run, each row padded to whole vectors, cut into chunks that fit the
// registers.
#pragma once

#include "conv_pool/patches.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int most_wide = 8;

struct Chunk {
  int64_t row;     // its first row of taps
  int64_t column;  // its first unit in the row
  int rows;
  int columns;
  int64_t last_numbers;  // of each row's last unit: less than a whole one where the run ends in it
};

constexpr int widest(int rows, int most) { return most / rows < most_wide ? most / rows : most_wide; }

// Chunks of at most `most` units of some numbers of a run: vectors, or single numbers.
class Chunks {
 public:
  Chunks(const ConvPoolJob& job, int most, int64_t unit)
      : rows_(job.conv[0].kernel), unit_(unit), columns_(rounded_up(job.run(), unit) / unit), list_(rows_ * columns_) {
    for (int64_t row = 0; row < rows_;) {
      const int high = rows_at_once(rows_ - row, most);
      const int64_t wide = widest(high, most), groups = (columns_ + wide - 1) / wide;
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t first = g * columns_ / groups, last = (g + 1) * columns_ / groups;
        const int64_t within = job.run() - (last - 1) * unit;
        list_[count_++] = {row, first, high, static_cast<int>(last - first), within < unit ? within : unit};
      }
      row += high;
    }
  }
  int64_t count() const { return count_; }
  const Chunk& operator[](int64_t i) const { return list_[i]; }
  int64_t row_size() const { return columns_ * unit_; }
  int64_t filter_size() const { return rows_ * row_size(); }
  // From the first number of a filter, or of a patch whose rows are `row_step` apart, to those of a chunk.
  int64_t in_filter(const Chunk& chunk) const { return chunk.row * row_size() + chunk.column * unit_; }
  int64_t in_patch(const Chunk& chunk, int64_t row_step) const { return chunk.row * row_step + chunk.column * unit_; }

 private:
  static int rows_at_once(int64_t left, int most) { return left >= 5 && most >= 10 ? 5 : left >= 3 ? 3 : 1; }

  int64_t rows_, unit_, columns_;
  Scratch<Chunk> list_;
  int64_t count_ = 0;
};

// A number that goes back, and where: to the patch of a winner (for the weights) or through a filter (for the input).
template <class E>
struct Message {
  int32_t where;
  E number;
};

// Which codes name a cell of their window that lies within the convolution's output. Those that do not, 255 among them,
// have no winner to send to.
class ValidCodes {
 public:
  explicit ValidCodes(const ConvPoolJob& job) : job_(job), cells_(job.pool[0].kernel * job.pool[1].kernel) {
    for (int64_t code = 0; code < 256; ++code) {
      inner_[code] = code < cells_;
      border_[code] = 0;
    }
  }
  int64_t cells() const { return cells_; }

  // Whether every cell of the window lies within.
  bool all(int64_t p, int64_t q) const {
    const Axis &y = job_.pool[0], &x = job_.pool[1];
    return y.start(p) >= 0 && y.start(p) + y.span() <= y.size && x.start(q) >= 0 && x.start(q) + x.span() <= x.size;
  }

  // Of the window at pooled row p and column q, counting convolution rows low .. high - 1 alone.
  const uint8_t* of(int64_t p, int64_t q, int64_t low, int64_t high) {
    const Axis &y = job_.pool[0], &x = job_.pool[1];
    const int64_t row = y.start(p), column = x.start(q);
    if (row >= low && row + y.span() <= high && column >= 0 && column + x.span() <= x.size) return inner_;
    for (int64_t cell = 0; cell < cells_; ++cell) {
      const int64_t r = row + cell / x.kernel * y.dilation, s = column + cell % x.kernel * x.dilation;
      border_[cell] = r >= low && r < high && s >= 0 && s < x.size;
    }
    return border_;
  }

 private:
  const ConvPoolJob& job_;
  int64_t cells_;
  uint8_t inner_[256], border_[256];
};

// Calls Kernel<E, rows, columns>::run for a chunk's size.
template <template <class, int, int> class Kernel, class E, int Rows, int Columns, class... Args>
SWITCHGRAD_INLINE void with_columns(int columns, const Args&... args) {
  if constexpr (Columns > 1) {
    if (columns < Columns) return with_columns<Kernel, E, Rows, Columns - 1>(columns, args...);
  }
  Kernel<E, Rows, Columns>::run(args...);
}
template <template <class, int, int> class Kernel, class E, int Most, class... Args>
void with_chunk(const Chunk& chunk, const Args&... args) {
  switch (chunk.rows) {
    case 1: return with_columns<Kernel, E, 1, widest(1, Most)>(chunk.columns, args...);
    case 3: return with_columns<Kernel, E, 3, widest(3, Most)>(chunk.columns, args...);
    default: return with_columns<Kernel, E, 5, widest(5, Most)>(chunk.columns, args...);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
