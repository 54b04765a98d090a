// Non-maximum suppression: one box against many, in lanes.
#pragma once

#include "common/numbers.h"
#include "regions/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class A>
void suppress(const SuppressionJob& job, int64_t by, int64_t begin, int64_t end) {
  constexpr int most = vector_bytes / static_cast<int>(sizeof(A));
  const auto corner = [&](int i) { return static_cast<const A*>(job.corner[i]); };
  const A *x1 = corner(0), *y1 = corner(1), *x2 = corner(2), *y2 = corner(3);
  const auto* area = static_cast<const A*>(job.area);
  const auto limit = static_cast<A>(job.threshold);
  cascade<most>(begin, end, [&](auto lanes, int64_t i, auto cover) {
    constexpr int N = decltype(lanes)::value;
    using V = Vec<A, N>;
    // NaN in a corner makes an area NaN, and with it the quotient, which then is not above the threshold.
    const auto larger = [&](A a, V b) { return select(b > a, b, broadcast<A, N>(a)); };
    const auto smaller = [&](A a, V b) { return select(b < a, b, broadcast<A, N>(a)); };
    const V width = static_cast<V>(smaller(x2[by], load<V>(x2 + i, cover)) - larger(x1[by], load<V>(x1 + i, cover)));
    const V height = static_cast<V>(smaller(y2[by], load<V>(y2 + i, cover)) - larger(y1[by], load<V>(y1 + i, cover)));
    const V inter = static_cast<V>(select(width < V{}, V{}, width) * select(height < V{}, V{}, height));
    const V both = static_cast<V>(broadcast<A, N>(area[by]) + load<V>(area + i, cover) - inter);
    const V iou = select(both == V{}, V{}, static_cast<V>(inter / both));
    const auto over = iou > limit;
    const auto hit = select(over, broadcast<Int<A>, N>(1), Vec<Int<A>, N>{});
    alignas(64) Int<A> hits[N];
    store(hits, hit);
    const int64_t count = end - i < N ? end - i : N;
    for (int64_t lane = 0; lane < count; ++lane)
      job.gone[i + lane] |=
          static_cast<uint8_t>(hits[lane] && (!job.classes || job.classes[by] == job.classes[i + lane]));
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
