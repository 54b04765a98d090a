// Which instruction set's kernels run: the best that this processor has, or the one that SWITCHGRAD_ISA names.
//
// Each family of kernels has a table of function pointers and a file <family>_table.cpp that is compiled once for each
// instruction set and defines `const Table& name()` in the namespace of that name. A family says in its own header
//   SWITCHGRAD_TABLE(MaxPoolTable, max_pool_table)
// and asks for the table of the chosen instruction set with kernels(SWITCHGRAD_OF_EACH_ISA(max_pool_table)).
#pragma once

#include "batch_norm/job.h"
#include "common/table.h"
#include "cross_entropy/job.h"
#include "dropout/job.h"

namespace switchgrad {

enum class Isa { base, avx2, avx512 };

// Throws where SWITCHGRAD_ISA names one that is not here.
Isa chosen_isa();

template <class Table>
struct TableOfEachIsa {
  const Table& (*of[3])();
};

template <class Table>
const Table& kernels(const TableOfEachIsa<Table>& tables) {
  return tables.of[static_cast<int>(chosen_isa())]();
}

#if defined(__x86_64__)
#define SWITCHGRAD_TABLE(Table, name) \
  namespace base {                    \
  const Table& name();                \
  }                                   \
  namespace avx2 {                    \
  const Table& name();                \
  }                                   \
  namespace avx512 {                  \
  const Table& name();                \
  }
#define SWITCHGRAD_OF_EACH_ISA(name)       \
  {                                        \
    {                                      \
      base::name, avx2::name, avx512::name \
    }                                      \
  }
#else
#define SWITCHGRAD_TABLE(Table, name) \
  namespace base {                    \
  const Table& name();                \
  }
#define SWITCHGRAD_OF_EACH_ISA(name) \
  {                                  \
    {                                \
      base::name, nullptr, nullptr   \
    }                                \
  }
#endif

SWITCHGRAD_TABLE(MaxPoolTable, max_pool_table)
SWITCHGRAD_TABLE(ReluMaxPoolTable, relu_max_pool_table)
SWITCHGRAD_TABLE(BatchNormTable, batch_norm_table)
SWITCHGRAD_TABLE(CrossEntropyTable, cross_entropy_table)
SWITCHGRAD_TABLE(DropoutTable, dropout_table)

}  // namespace switchgrad
