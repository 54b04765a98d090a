// Which instruction set's kernels run: the best that this processor has, or the one that SWITCHGRAD_ISA names.
#pragma once

#include "common/table.h"

namespace switchgrad {

const MaxPoolTable& kernels();

}  // namespace switchgrad
