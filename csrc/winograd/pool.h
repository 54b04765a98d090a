// Convolution and max pooling over two-by-two windows: each tile of outputs is pooled as it comes out.
#pragma once

#include "conv_pool/outlet.h"
#include "winograd/forward.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// The window's winner among four neighbouring outputs, in the order of their codes.
template <class E>
SWITCHGRAD_INLINE typename Outlet<E>::Winner winner_of(Vec<E, lanes_of<E>> first, Vec<E, lanes_of<E>> second,
                                                       Vec<E, lanes_of<E>> third, Vec<E, lanes_of<E>> fourth) {
  constexpr int N = lanes_of<E>;
  using Lane = typename Outlet<E>::Lane;
  using Winner = typename Outlet<E>::Winner;
  auto best = Winner::of(first, broadcast<Lane, N>(0));
  best.meet(Winner::of(second, broadcast<Lane, N>(1)));
  best.meet(Winner::of(third, broadcast<Lane, N>(2)));
  best.meet(Winner::of(fourth, broadcast<Lane, N>(3)));
  return best;
}

template <class W, class E>
class PoolOutlet {
 public:
  static constexpr int N = lanes_of<E>, windows = W::outputs / 2;
  using V = Vec<E, N>;

  PoolOutlet(const WinogradForwardJob& job, const ConvPoolForwardJob& pooled)
      : job_(job), rows_(pooled.pool[0].places), columns_(pooled.pool[1].places), outlet_(pooled) {}

  template <class Read>
  SWITCHGRAD_INLINE void write(const TilePlace& at, int64_t k, const Read& read, Doubt<E>& doubt) const {
    V y[W::outputs][W::outputs];
    outputs_of<W>(job_, k, read, y, doubt);
    for (int i = 0; i < windows && at.row / 2 + i < rows_; ++i)
      for (int j = 0; j < windows && at.column / 2 + j < columns_; ++j) {
        const int64_t pixel = (at.image * rows_ + at.row / 2 + i) * columns_ + at.column / 2 + j;
        outlet_.write(winner_of<E>(y[2 * i][2 * j], y[2 * i][2 * j + 1], y[2 * i + 1][2 * j], y[2 * i + 1][2 * j + 1]),
                      pixel, k);
      }
  }

 private:
  const WinogradForwardJob& job_;
  int64_t rows_, columns_;
  Outlet<E> outlet_;
};

template <class W, class E>
bool winograd_pool(const WinogradForwardJob& job, const ConvPoolForwardJob& pooled, int64_t begin, int64_t end) {
  return winograd_tiles<W, E>(job, begin, end, PoolOutlet<W, E>(job, pooled));
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
