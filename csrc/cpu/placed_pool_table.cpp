// The kernels for windows at given places for one instruction set: compiled once for each.
#include "placed_pool/pool.h"
#include "placed_pool/route.h"

namespace switchgrad::SWITCHGRAD_ISA {

#define ROW(kernel, T) {kernel<T, uint8_t>, kernel<T, int16_t>, kernel<T, int32_t>}
#define ALL(kernel)                                                                                              \
  {ROW(kernel, double), ROW(kernel, float),   ROW(kernel, Float16), ROW(kernel, BFloat16), ROW(kernel, uint8_t), \
   ROW(kernel, int8_t), ROW(kernel, int16_t), ROW(kernel, int32_t), ROW(kernel, int64_t)}

const PlacedPoolTable& placed_pool_table() {
  static constexpr PlacedPoolTable table = {ALL(placed_pool_planar), ALL(placed_pool_channels_last),
                                            ALL(placed_route_planar), ALL(placed_route_channels_last)};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
