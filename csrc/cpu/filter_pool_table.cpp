// The kernels of weighted and blurred pooling for one instruction set: see max_pool_table.cpp.
#include "filter_pool/filter_pool.h"

namespace switchgrad::SWITCHGRAD_ISA {

#define ALL(kernel) {kernel<double>, kernel<float>, kernel<Float16>, kernel<BFloat16>}

const FilterTable& filter_pool_table() {
  static constexpr FilterTable table = {ALL(filter_sums_planar), ALL(filter_sums_channels_last),
                                        ALL(filter_spread_planar), ALL(filter_spread_channels_last)};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
