// The max-pooling kernels for one instruction set: compiled once for each, with SWITCHGRAD_ISA naming it.
#include "max_pool/channels_last.h"
#include "max_pool/planar.h"
#include "max_pool/route_channels_last.h"
#include "max_pool/route_planar.h"
#include "max_pool/scatter_channels_last.h"
#include "max_pool/scatter_planar.h"

namespace switchgrad::SWITCHGRAD_ISA {

#define ROW(kernel, T) {kernel<T, uint8_t>, kernel<T, int16_t>, kernel<T, int32_t>}
#define ALL(kernel)                                                                                              \
  {ROW(kernel, double), ROW(kernel, float),   ROW(kernel, Float16), ROW(kernel, BFloat16), ROW(kernel, uint8_t), \
   ROW(kernel, int8_t), ROW(kernel, int16_t), ROW(kernel, int32_t), ROW(kernel, int64_t)}

const MaxPoolTable& max_pool_table() {
  static constexpr MaxPoolTable table = {ALL(pool_planar), ALL(pool_channels_last), ALL(route_planar),
                                         ALL(route_channels_last), ALL(scatter_planar)};
  return table;
}

const MaxScatterTable& max_scatter_table() {
  static constexpr MaxScatterTable table = {
      {scatter_channels_last<double>, scatter_channels_last<float>, scatter_channels_last<Float16>,
       scatter_channels_last<BFloat16>, scatter_channels_last<uint8_t>, scatter_channels_last<int8_t>,
       scatter_channels_last<int16_t>, scatter_channels_last<int32_t>, scatter_channels_last<int64_t>}};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
