// The kernels of random pooling for one instruction set: see max_pool_table.cpp.
#include "random_pool/random_pool.h"

namespace switchgrad::SWITCHGRAD_ISA {

#define ALL(kernel) {kernel<double>, kernel<float>, kernel<Float16>, kernel<BFloat16>}

const RandomPoolTable& random_pool_table() {
  static constexpr RandomPoolTable table = {ALL(stochastic_planar), ALL(stochastic_channels_last), ALL(dropout_planar),
                                            ALL(dropout_channels_last)};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
