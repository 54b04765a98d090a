// The kernels of pooling over boxes for one instruction set: see max_pool_table.cpp.
#include "regions/maxima.h"
#include "regions/sums.h"
#include "regions/suppression.h"

namespace switchgrad::SWITCHGRAD_ISA {

#define ALL(kernel) {kernel<double>, kernel<float>, kernel<Float16>, kernel<BFloat16>}

const RegionTable& region_table() {
  static constexpr RegionTable table = {ALL(sum_regions),   ALL(spread_regions), ALL(largest_of_regions),
                                        ALL(route_regions), ALL(gather_regions), suppress<double>,
                                        suppress<float>};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
