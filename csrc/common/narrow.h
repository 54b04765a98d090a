// Sums rounded to the numbers they are sums of, one after the other.
#pragma once

#include "common/numbers.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class T>
void narrow_all(const Wide<T>* sums, int64_t count, Raw<T>* to) {
  constexpr int N = wide_lanes<T>;
  int64_t i = 0;
  for (; i + N <= count; i += N) store_wide<T, N>(to + i, load<Vec<Wide<T>, N>>(sums + i));
  for (; i < count; ++i) to[i] = Element<T>::narrow(sums[i]);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
