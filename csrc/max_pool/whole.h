// Wide windows whose cells are neighbours in memory: whole maps (pooling to one number a map) and long pieces of a row.
#pragma once

#include "max_pool/best.h"
#include "max_pool/winner.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Whether the one window of every map is the map, and a map has no holes.
inline bool pools_whole_maps(const PoolJob& job) {
  for (const Axis& axis : job.window.axis)
    if (axis.places != 1 || axis.kernel != axis.size || axis.pad_begin != 0 || (axis.dilation != 1 && axis.size > 1))
      return false;
  const Axis &y = job.window.axis[1], &x = job.window.axis[2];
  return (y.size == 1 || job.input_stride[3] == x.size) &&
         (job.window.axis[0].size == 1 || job.input_stride[2] == y.size * x.size);
}

// Whether windows are pieces of a row, long enough for lanes along them, that share at most half of their cells.
inline bool pools_runs(const PoolJob& job, int lanes) {
  const Axis &z = job.window.axis[0], &y = job.window.axis[1], &x = job.window.axis[2];
  return z.kernel == 1 && y.kernel == 1 && z.pad_begin == 0 && y.pad_begin == 0 && x.dilation == 1 &&
         x.kernel >= 2 * lanes && 2 * x.stride >= x.kernel;
}

// Writes the winner among `count` neighbours; the window has `before` cells in the padding in front of them.
template <class T, class Code>
SWITCHGRAD_INLINE void write_winner(const typename Kinds<T, Code>::Raw* from, int64_t count, int64_t before,
                                    typename Kinds<T, Code>::Raw* values, Code* codes, int64_t at) {
  using Lane = typename Kinds<T, Code>::Lane;
  const int64_t winner = winner_of_run<T>(from, count);
  Best<T, Code, 1>::of(from[winner], static_cast<Lane>(before + winner)).write(values, codes, at);
}

template <class T, class Code>
void pool_maps(const PoolJob& job, int64_t begin, int64_t end) {
  const OutputRow<T, Code> to(job, 0, 1);
  const int64_t cells = job.window.cells();
  int64_t image = begin / job.channels, channel = begin % job.channels;
  for (int64_t item = begin; item < end; ++item) {
    const auto* map = static_cast<const typename Kinds<T, Code>::Raw*>(job.input) + image * job.input_stride[0] +
                      channel * job.input_stride[1];
    write_winner<T, Code>(map, cells, 0, to.values, to.codes, item);
    if (++channel < job.channels) continue;
    channel = 0;
    ++image;
  }
}

// One output row; `row` is the input row under it.
template <class T, class Code>
void pool_runs(const Axis& width, const typename Kinds<T, Code>::Raw* row, const OutputRow<T, Code>& to) {
  for (int64_t q = 0; q < width.places; ++q) {
    const int64_t first = width.first(q), count = width.last(q) - first;
    if (count > 0) {
      write_winner<T, Code>(row + width.start(q) + first, count, first, to.values, to.codes, q);
    } else {
      write_none<T, Code>(to.values, to.codes, q);
    }
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
