// The kernels of cross entropy for one instruction set: see max_pool_table.cpp.
#include "cross_entropy/cross_entropy.h"

namespace switchgrad::SWITCHGRAD_ISA {

const CrossEntropyTable& cross_entropy_table() {
  static constexpr CrossEntropyTable table = {{rows<double>, rows<float>, rows<Float16>, rows<BFloat16>}};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
