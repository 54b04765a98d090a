#include "cpu/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

namespace switchgrad {
namespace {

const MaxPoolTable* find(const char* isa) {
#if defined(__x86_64__)
  if (std::strcmp(isa, "avx512") == 0)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("bmi2")
               ? &avx512::max_pool_table()
               : nullptr;
  if (std::strcmp(isa, "avx2") == 0)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2::max_pool_table() : nullptr;
#endif
  return std::strcmp(isa, "base") == 0 ? &base::max_pool_table() : nullptr;
}

const MaxPoolTable* choose() {
  const char* forced = std::getenv("SWITCHGRAD_ISA");
  if (forced && *forced) {
    if (const MaxPoolTable* table = find(forced)) return table;
    fail("SWITCHGRAD_ISA is \"" + std::string(forced) +
         "\"; this build on this processor has only those that `switchgrad info` lists, so unset it or name one");
  }
  for (const char* isa : {"avx512", "avx2"})
    if (const MaxPoolTable* table = find(isa)) return table;
  return &base::max_pool_table();
}

std::atomic<const MaxPoolTable*> chosen{nullptr};

}  // namespace

const MaxPoolTable& kernels() {
  const MaxPoolTable* table = chosen.load(std::memory_order_acquire);
  if (!table) chosen.store(table = choose(), std::memory_order_release);
  return *table;
}

}  // namespace switchgrad

// For Python through ctypes: is this instruction set here, which one runs, and (for tests) run another one.
extern "C" {
__attribute__((visibility("default"))) int switchgrad_supports(const char* isa) {
  return switchgrad::find(isa) != nullptr;
}
__attribute__((visibility("default"))) const char* switchgrad_isa() {
  try {
    return switchgrad::kernels().isa;
  } catch (const std::runtime_error&) {
    return nullptr;
  }
}
__attribute__((visibility("default"))) int switchgrad_use(const char* isa) {
  const switchgrad::MaxPoolTable* table = switchgrad::find(isa);
  if (table) switchgrad::chosen.store(table, std::memory_order_release);
  return table != nullptr;
}
}
