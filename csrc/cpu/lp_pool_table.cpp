// The kernels of Lp pooling for one instruction set: see max_pool_table.cpp.
#include "lp_pool/powers.h"

namespace switchgrad::SWITCHGRAD_ISA {

#define ALL(kernel) {kernel<double>, kernel<float>, kernel<Float16>, kernel<BFloat16>}

const LpPoolTable& lp_pool_table() {
  static constexpr LpPoolTable table = {ALL(powers), ALL(roots), ALL(shares), ALL(slopes)};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
