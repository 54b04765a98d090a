// Turning layouts over, for one instruction set: compiled once for each.
#include "layout/turn.h"

namespace switchgrad::SWITCHGRAD_ISA {

const LayoutTable& layout_table() {
  static constexpr LayoutTable table = {bands_of_matrix, {turn<float>, turn<double>}};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
