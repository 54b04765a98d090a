// Turns matrices over, a square of vectors at a time.
#pragma once

#include "common/lanes.h"
#include "common/turn.h"
#include "layout/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int64_t rows_of_band = 64;  // of what is read; four cache lines of each row that is written

inline int64_t bands_of_matrix(const TurnJob& job) { return rounded_up(job.rows, rows_of_band) / rows_of_band; }

// Not inlined: in a larger function GCC keeps the vectors in memory.
template <class E, int N>
__attribute__((noinline)) void turn_square(const E* from, int64_t from_step, E* to, int64_t to_step) {
  Vec<E, N> v[N];
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) v[i] = load<Vec<E, N>>(from + i * from_step);
  turn_over<E, N>(v);
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) store(to + i * to_step, v[i]);
}

// A square of which only some rows and columns are there.
template <class E, int N>
__attribute__((noinline)) void turn_part(const E* from, int64_t from_step, int64_t rows, int64_t columns, E* to,
                                         int64_t to_step) {
  Vec<E, N> v[N];
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) v[i] = i < rows ? load_first<N>(from + i * from_step, columns) : Vec<E, N>{};
  turn_over<E, N>(v);
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i)
    if (i < columns) store_first<N>(to + i * to_step, v[i], rows);
}

template <class E>
void turn(const TurnJob& job, int64_t begin, int64_t end) {
  constexpr int N = lanes_of<E>;
  const int64_t bands = bands_of_matrix(job);
  for (int64_t band = begin; band < end; ++band) {
    const int64_t at = band / bands * job.rows * job.columns, row = band % bands * rows_of_band;
    const int64_t row_end = row + rows_of_band < job.rows ? row + rows_of_band : job.rows;
    const E* from = static_cast<const E*>(job.from) + at;
    E* to = static_cast<E*>(job.to) + at;
    for (int64_t j = 0; j < job.columns; j += N)
      for (int64_t i = row; i < row_end; i += N) {
        const E* square = from + i * job.columns + j;
        E* turned = to + j * job.rows + i;
        if (i + N <= row_end && j + N <= job.columns)
          turn_square<E, N>(square, job.columns, turned, job.rows);
        else
          turn_part<E, N>(square, job.columns, row_end - i, job.columns - j, turned, job.rows);
      }
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
