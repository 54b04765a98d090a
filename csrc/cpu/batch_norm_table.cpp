// The kernels of batch normalisation for one instruction set: see max_pool_table.cpp.
#include "batch_norm/batch_norm.h"

namespace switchgrad::SWITCHGRAD_ISA {

#define ALL(kernel) {kernel<double>, kernel<float>, kernel<Float16>, kernel<BFloat16>}
#define BOTH(kernel, Source) \
  {kernel<double, Source>, kernel<float, Source>, kernel<Float16, Source>, kernel<BFloat16, Source>}

const BatchNormTable& batch_norm_table() {
  static constexpr BatchNormTable table = {ALL(first),
                                           ALL(statistics),
                                           ALL(apply),
                                           ALL(pool),
                                           BOTH(sums, Masked),
                                           BOTH(sums, Routed),
                                           BOTH(gradient, Masked),
                                           BOTH(gradient, Routed)};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
