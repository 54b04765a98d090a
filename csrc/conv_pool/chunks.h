// A filter's taps as vectors: R rows of a run, each row padded to whole vectors, cut into chunks that fit the
// registers.
#pragma once

#include "conv_pool/patches.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int most_wide = 8;

struct Chunk {
  int64_t units() const { return rows * columns; }

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

// The next row of taps. GCC would rather hold the address of every vector, in other vectors for want of registers.
template <class E>
SWITCHGRAD_INLINE E* next_row(E* row, int64_t step) {
  row += step;
  __asm__("" : "+r"(row));
  return row;
}

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
