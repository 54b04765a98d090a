// What every fuzzer does: cases one after another until the time is up, for each instruction set; chunks in any order.
#pragma once

#include <sanitizer/common_interface_defs.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "fuzz/numbers.h"

namespace fuzz {

inline uint64_t the_seed = 0, the_case = 0;
inline const char* the_isa = "";

inline void (*tell_case)() = nullptr;  // prints what is being tried

// The report of a failure, be it ours or the sanitisers'.
inline void tell() {
  std::printf("%s; seed %llu, case %llu\n", the_isa, static_cast<unsigned long long>(the_seed),
              static_cast<unsigned long long>(the_case));
  tell_case();
  std::fflush(stdout);
}

[[noreturn]] inline void complain(const char* what) {
  std::printf("MISMATCH: %s\n", what);
  tell();
  std::_Exit(1);
}

// Runs a kernel over 0 .. items - 1 in chunks, in any order.
template <class Kernel, class Job>
void in_chunks(Kernel kernel, const Job& job, int64_t items) {
  std::vector<int64_t> cuts{0, items};
  for (int64_t i = between(0, 4); i > 0; --i) cuts.push_back(between(0, items));
  std::sort(cuts.begin(), cuts.end());
  std::vector<size_t> chunks(cuts.size() - 1);
  for (size_t i = 0; i < chunks.size(); ++i) chunks[i] = i;
  std::shuffle(chunks.begin(), chunks.end(), random_bits);
  for (const size_t i : chunks)
    if (cuts[i] < cuts[i + 1]) kernel(job, cuts[i], cuts[i + 1]);
}

// Who serves: an instruction set and its table. `#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::some_table},`
// and SWITCHGRAD_SERVERS, which scripts/sanitize gives, list them.
template <class Table>
struct Server {
  const char* isa;
  const Table& (*table)();
};

// main: SECONDS [SEED] for each server; `once(table)` makes a case and tries it, `teller` prints it on a failure.
template <class Table, size_t Count, class Once>
int run(int count, char** words, const Server<Table> (&servers)[Count], void (*teller)(), Once once) {
  const double seconds = count > 1 ? std::atof(words[1]) : 10;
  the_seed = count > 2 ? std::strtoull(words[2], nullptr, 10) : 1;
  tell_case = teller;
  __sanitizer_set_death_callback(tell);
  for (const Server<Table>& server : servers) {
    the_isa = server.isa;
    the_case = 0;
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds) {
      random_bits.seed(the_seed * 1'000'003 + ++the_case);
      once(server.table());
    }
    std::printf("%s: %llu cases, all as the loops say\n", the_isa, static_cast<unsigned long long>(the_case));
  }
  return 0;
}

}  // namespace fuzz
