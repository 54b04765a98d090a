#include "cpu/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

namespace switchgrad {
namespace {

constexpr const char* names[] = {"base", "avx2", "avx512"};
constexpr int unknown = -1;

bool runs_here([[maybe_unused]] int isa) {
#if defined(__x86_64__)
  if (isa == static_cast<int>(Isa::avx512))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("bmi2");
  if (isa == static_cast<int>(Isa::avx2)) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return isa == static_cast<int>(Isa::base);
}

int find(const char* name) {
  for (int isa = 0; isa < 3; ++isa)
    if (std::strcmp(name, names[isa]) == 0) return runs_here(isa) ? isa : unknown;
  return unknown;
}

int choose() {
  const char* forced = std::getenv("SWITCHGRAD_ISA");
  if (forced && *forced) {
    if (const int isa = find(forced); isa != unknown) return isa;
    fail("SWITCHGRAD_ISA is \"" + std::string(forced) +
         "\"; this build on this processor has only those that `switchgrad info` lists, so unset it or name one");
  }
  return runs_here(2) ? 2 : runs_here(1) ? 1 : 0;
}

std::atomic<int> chosen{unknown};

}  // namespace

Isa chosen_isa() {
  int isa = chosen.load(std::memory_order_relaxed);
  if (isa == unknown) chosen.store(isa = choose(), std::memory_order_relaxed);
  return static_cast<Isa>(isa);
}

}  // namespace switchgrad

// For Python through ctypes: is this instruction set here, which one runs, and (for tests) run another one.
extern "C" {
__attribute__((visibility("default"))) int switchgrad_supports(const char* isa) {
  return switchgrad::find(isa) != switchgrad::unknown;
}
__attribute__((visibility("default"))) const char* switchgrad_isa() {
  try {
    return switchgrad::names[static_cast<int>(switchgrad::chosen_isa())];
  } catch (const std::runtime_error&) {
    return nullptr;
  }
}
__attribute__((visibility("default"))) int switchgrad_use(const char* isa) {
  const int found = switchgrad::find(isa);
  if (found != switchgrad::unknown) switchgrad::chosen.store(found, std::memory_order_relaxed);
  return found != switchgrad::unknown;
}
}
