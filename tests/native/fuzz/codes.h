// Winners as the kernels keep them: bytes, or wider where windows are.
#pragma once

#include "common/table.h"
#include "fuzz/memory.h"

namespace fuzz {

class Codes {
 public:
  Codes(int region, int64_t count, int64_t cells_of_window)
      : width(switchgrad::code_width(cells_of_window)), bytes_(count << width), buffer_(region, bytes_) {}

  int64_t operator[](int64_t i) const {
    const char* from = &buffer_[i << width];
    if (width == switchgrad::Code8) return *reinterpret_cast<const uint8_t*>(from);
    if (width == switchgrad::Code16) return *reinterpret_cast<const int16_t*>(from);
    return *reinterpret_cast<const int32_t*>(from);
  }
  void set(int64_t i, int64_t code) { std::memcpy(&buffer_[i << width], &code, size_t{1} << width); }
  // What says that no cell won.
  int64_t none() const { return width == switchgrad::Code8 ? 255 : -1; }
  // Makes them codes of another pooling, or of a damaged file: they must be harmless.
  void spoil() {
    for (int64_t i = 0; i < bytes_; ++i)
      if (chance(50)) buffer_[i] = chance(20) ? char{-1} : static_cast<char>(random_bits());
  }
  void* get() { return buffer_.get(); }
  bool intact() const { return buffer_.intact(); }

  const switchgrad::CodeWidth width;

 private:
  int64_t bytes_;
  Buffer<char> buffer_;
};

}  // namespace fuzz
