// From one channel after another to all channels of a pixel side by side, and back: matrices turned over.
#pragma once

#include <cstdint>

#include "cpu/isa.h"

namespace switchgrad {

// `count` matrices, compact and one after another: rows x columns become columns x rows.
struct TurnJob {
  int64_t count = 0, rows = 0, columns = 0;
  const void* from = nullptr;
  void* to = nullptr;
};

struct LayoutTable {
  int64_t (*bands)(const TurnJob&);  // of one matrix
  // Bands begin .. end - 1 of all matrices, of elements of 4 and of 8 bytes.
  void (*turn[2])(const TurnJob&, int64_t begin, int64_t end);
};
SWITCHGRAD_TABLE(LayoutTable, layout_table)

}  // namespace switchgrad
