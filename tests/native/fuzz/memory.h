// Memory of exactly the right size, in which the sanitisers, the processor or a canary see every step too far.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "fuzz/numbers.h"

namespace fuzz {

// Pages that are touched at one's peril around a region that is used again and again.
class Region {
 public:
  static constexpr size_t size = size_t{1} << 25, page = 4096;
  Region() {
    auto* all = static_cast<char*>(mmap(nullptr, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (all == MAP_FAILED || mprotect(all + page, size, PROT_READ | PROT_WRITE) != 0) std::abort();
    begin = all + page;
  }
  char* begin;
};

// Memory of exactly `count` elements: on the heap, or at the beginning or the end of a region. Where no page guards
// it, canaries do.
template <class E>
class Buffer {
 public:
  Buffer(int region, int64_t count) : bytes_(static_cast<size_t>(count) * sizeof(E)) {
    static Region regions[10];
    if (bytes_ + 2 * canaries > Region::size || chance(50)) {
      heap_.reset(new char[bytes_]);
      data_ = heap_.get();
    } else {
      const bool at_begin = chance(50);
      data_ = regions[region].begin + (at_begin ? 0 : Region::size - bytes_);
      guard_ = at_begin ? data_ + bytes_ : data_ - canaries;
      std::memset(guard_, 0x77, canaries);
    }
    std::memset(data_, 0x5a, bytes_);
  }
  E& operator[](int64_t i) { return reinterpret_cast<E*>(data_)[i]; }
  const E& operator[](int64_t i) const { return reinterpret_cast<const E*>(data_)[i]; }
  E* get() { return reinterpret_cast<E*>(data_); }
  bool intact() const {
    return !guard_ || std::all_of(guard_, guard_ + canaries, [](char c) { return c == 0x77; });
  }

 private:
  static constexpr size_t canaries = 4096;
  size_t bytes_;
  std::unique_ptr<char[]> heap_;
  char* data_ = nullptr;
  char* guard_ = nullptr;
};

}  // namespace fuzz
