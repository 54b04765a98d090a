// Memory for the length of one call, kept for the next: fresh memory is faulted in page by page, which can cost as much
// as the work that is done in it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace switchgrad {

// What is kept when nobody uses it: at most this many bytes in the process.
constexpr size_t most_scratch_kept = size_t{64} << 20;

class CallScratch {
 public:
  explicit CallScratch(size_t bytes);
  ~CallScratch();
  CallScratch(const CallScratch&) = delete;
  CallScratch& operator=(const CallScratch&) = delete;
  void* get() const { return data_; }

 private:
  void* data_;
  size_t bytes_;
};

}  // namespace switchgrad
