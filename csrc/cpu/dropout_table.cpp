// The kernels of dropout for one instruction set: see max_pool_table.cpp.
#include "dropout/dropout.h"

namespace switchgrad::SWITCHGRAD_ISA {

#define ALL(kernel) {kernel<double>, kernel<float>, kernel<Float16>, kernel<BFloat16>}

const DropoutTable& dropout_table() {
  static constexpr DropoutTable table = {ALL(drop), ALL(rectify_and_drop)};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
