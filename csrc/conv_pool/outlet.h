// Where the winners of the pooling windows of a convolution go.
#pragma once

#include "common/lanes.h"
#include "conv_pool/job.h"
#include "max_pool/best.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// What happens to a window's winner on its way out.
template <class E>
class Outlet {
 public:
  static constexpr int N = lanes_of<E>;
  using Winner = Best<E, uint8_t, N>;
  using Lane = typename Kinds<E, uint8_t>::Lane;

  explicit Outlet(const ConvPoolForwardJob& job)
      : relu_(job.relu), filters_(job.filters), values_(static_cast<E*>(job.values)), codes_(job.codes) {}

  SWITCHGRAD_INLINE void finish(Winner& best) const {
    if (!relu_) return;  // else a window whose winner is not above 0 has no winner: nothing goes back through it
    const auto dead = best.value <= Vec<E, N>{};
    best.value = select(dead, Vec<E, N>{}, best.value);
    best.code = select(dead, broadcast<Lane, N>(255), best.code);
  }
  SWITCHGRAD_INLINE void write(Winner best, int64_t pixel, int64_t filter) const {
    finish(best);
    const int64_t at = pixel * filters_ + filter, count = filters_ - filter;
    store_first<N>(values_ + at, best.value, count);
    if (codes_) store_first<N>(codes_ + at, narrow_codes<uint8_t, N>(best.code), count);
  }
  void write_none(int64_t pixel) const {
    for (int64_t k = 0; k < filters_; ++k) {
      values_[pixel * filters_ + k] = Element<E>::lowest();  // no ReLU has seen it
      if (codes_) codes_[pixel * filters_ + k] = static_cast<uint8_t>(none);
    }
  }

 private:
  bool relu_;
  int64_t filters_;
  E* values_;
  uint8_t* codes_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
