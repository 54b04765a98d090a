// The average-pooling kernels for one instruction set: compiled once for each, with SWITCHGRAD_ISA naming it.
#include "avg_pool/channels_last.h"
#include "avg_pool/planar.h"
#include "avg_pool/spread_channels_last.h"
#include "avg_pool/spread_planar.h"

namespace switchgrad::SWITCHGRAD_ISA {

#define ALL(kernel) {kernel<double>, kernel<float>, kernel<Float16>, kernel<BFloat16>}

const AveragePoolTable& avg_pool_table() {
  static constexpr AveragePoolTable table = {ALL(average_planar), ALL(average_channels_last), ALL(spread_planar),
                                             ALL(spread_channels_last)};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
