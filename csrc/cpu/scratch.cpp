#include "cpu/scratch.h"

#include <deque>
#include <mutex>
#include <new>

#include "cpu/tensors.h"

namespace switchgrad {
namespace {

constexpr std::align_val_t line{64};

struct Block {
  void* data;
  size_t bytes;
};

// Never destroyed: threads may still run when the process ends.
struct Shelf {
  std::mutex lock;
  std::deque<Block> blocks;  // the one used last at the back
  size_t total = 0;
};
Shelf& shelf() {
  static Shelf* const the_shelf = new Shelf;
  return *the_shelf;
}

// A block that is large enough and not much too large; {} where there is none.
Block taken(size_t bytes) {
  Shelf& kept = shelf();
  const std::lock_guard<std::mutex> guard(kept.lock);
  for (auto block = kept.blocks.rbegin(); block != kept.blocks.rend(); ++block)
    if (block->bytes >= bytes && block->bytes / 2 <= bytes) {
      const Block found = *block;
      kept.blocks.erase(std::next(block).base());
      kept.total -= found.bytes;
      return found;
    }
  return {nullptr, 0};
}

}  // namespace

CallScratch::CallScratch(size_t bytes) {
  const Block found = taken(bytes);
  data_ = found.data;
  bytes_ = found.bytes;
  if (data_) return;
  bytes_ = bytes > 0 ? bytes : 1;
  data_ = ::operator new(bytes_, line);
  ask_for_large_pages(data_, bytes_);
}

CallScratch::~CallScratch() {
  Shelf& kept = shelf();
  const std::lock_guard<std::mutex> guard(kept.lock);
  kept.blocks.push_back({data_, bytes_});
  kept.total += bytes_;
  while (kept.total > most_scratch_kept) {
    const Block oldest = kept.blocks.front();
    kept.blocks.pop_front();
    kept.total -= oldest.bytes;
    ::operator delete(oldest.data, line);
  }
}

}  // namespace switchgrad
