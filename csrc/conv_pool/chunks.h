// A filter's taps as vectors: R rows of a run, each row padded to whole vectors, cut into chunks that fit the
// registers.
#pragma once

#include "conv_pool/patches.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int most_wide = 8;

struct Chunk {
  int64_t row;     // its first row of taps
  int64_t vector;  // its first vector in the row
  int rows;
  int vectors;
  int64_t last_lanes;  // of each row's last vector: less than N where the run ends in it
};

constexpr int widest(int rows, int most) { return most / rows < most_wide ? most / rows : most_wide; }

// Chunks of at most `most` vectors.
template <class E>
class Chunks {
 public:
  Chunks(const ConvPoolJob& job, int most)
      : rows_(job.conv[0].kernel),
        run_(job.run()),
        vectors_(rounded_up(run_, lanes_of<E>) / lanes_of<E>),
        list_(rows_ * vectors_) {
    for (int64_t row = 0; row < rows_;) {
      const int high = rows_at_once(rows_ - row, most);
      const int64_t wide = widest(high, most);
      const int64_t groups = (vectors_ + wide - 1) / wide;
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t first = g * vectors_ / groups, last = (g + 1) * vectors_ / groups;
        const int64_t within = run_ - (last - 1) * lanes_of<E>;
        list_[count_++] = {row, first, high, static_cast<int>(last - first),
                           within < lanes_of<E> ? within : lanes_of<E>};
      }
      row += high;
    }
  }
  int64_t count() const { return count_; }
  const Chunk& operator[](int64_t i) const { return list_[i]; }
  int64_t row_size() const { return vectors_ * lanes_of<E>; }
  int64_t filter_size() const { return rows_ * row_size(); }

 private:
  static int rows_at_once(int64_t left, int most) { return left >= 5 && most >= 10 ? 5 : left >= 3 ? 3 : 1; }

  int64_t rows_, run_, vectors_;
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

// Calls Kernel<E, rows, vectors>::run for a chunk's size.
template <template <class, int, int> class Kernel, class E, int Rows, int Vectors, class... Args>
SWITCHGRAD_INLINE void with_vectors(int vectors, const Args&... args) {
  if constexpr (Vectors > 1) {
    if (vectors < Vectors) return with_vectors<Kernel, E, Rows, Vectors - 1>(vectors, args...);
  }
  Kernel<E, Rows, Vectors>::run(args...);
}
template <template <class, int, int> class Kernel, class E, int Most, class... Args>
void with_chunk(const Chunk& chunk, const Args&... args) {
  switch (chunk.rows) {
    case 1: return with_vectors<Kernel, E, 1, widest(1, Most)>(chunk.vectors, args...);
    case 3: return with_vectors<Kernel, E, 3, widest(3, Most)>(chunk.vectors, args...);
    default: return with_vectors<Kernel, E, 5, widest(5, Most)>(chunk.vectors, args...);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
