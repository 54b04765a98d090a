// The kernels of max pooling behind a ReLU for one instruction set: see max_pool_table.cpp.
#include "max_pool/channels_last.h"
#include "max_pool/planar.h"

namespace switchgrad::SWITCHGRAD_ISA {

#define ROW(kernel, T) {kernel<Rectified<T>, uint8_t>, kernel<Rectified<T>, int16_t>, kernel<Rectified<T>, int32_t>}
#define ALL(kernel) {ROW(kernel, double), ROW(kernel, float), ROW(kernel, Float16), ROW(kernel, BFloat16)}

const ReluMaxPoolTable& relu_max_pool_table() {
  static constexpr ReluMaxPoolTable table = {ALL(pool_planar), ALL(pool_channels_last)};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
