// Sums of windows under weights: planar (places side by side in lanes) and channels last (channels), and the adjoint.
#pragma once

#include "filter_pool/channels_last.h"
#include "filter_pool/picked.h"
#include "filter_pool/planar.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class T>
void filter_sums_planar(const FilterJob& job, int64_t begin, int64_t end) {
  if (picks_sums<T>(job)) return picked_sums<T>(job, begin, end);
  PlanarSums<T>(job).rows(begin, end);
}
template <class T>
void filter_sums_channels_last(const FilterJob& job, int64_t begin, int64_t end) {
  PixelSums<T>(job).rows(begin, end);
}
template <class T>
void filter_spread_planar(const FilterJob& job, int64_t begin, int64_t end) {
  if (picks_spread<T>(job)) return picked_spread<T>(job, begin, end);
  PlanarSpread<T>(job).rows(begin, end);
}
template <class T>
void filter_spread_channels_last(const FilterJob& job, int64_t begin, int64_t end) {
  PixelSpread<T>(job).rows(begin, end);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
