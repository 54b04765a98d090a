// What the operators that compute convolutions in Winograd's tiles share: kernels, filters, threads.
#pragma once

#include <atomic>

#include "cpu/convolutions.h"
#include "winograd/job.h"

namespace switchgrad {

// `taps` is 3 or 5, `tile` 2 or 4 outputs.
inline const WinogradKernels& tile_kernels(const Tensor& input, int64_t taps, int64_t tile) {
  if (tile != 2 && tile != 4) fail("tiles are of 2 or 4 outputs; this is " + std::to_string(tile));
  const WinogradTable& table = kernels<WinogradTable>(SWITCHGRAD_OF_EACH_ISA(winograd_table));
  return of_dtype(table, input, "convolution by Winograd takes")[taps / 5][tile / 4];
}

// The tensor must lie channel by channel within a pixel.
inline Pixels pixels_of(const Tensor& t) {
  return {t.const_data_ptr(), t.size(2), t.size(3), t.size(1), {t.stride(0), t.stride(2), t.stride(3)}};
}

// The weight must be compact.
inline TapBank taps_of(const Tensor& weight) {
  const int64_t taps = weight.size(2) * weight.size(3);
  return {weight.const_data_ptr(), taps * weight.size(1), taps, false};
}

// The same filters as the input's gradient meets them: from outputs to inputs, and turned around.
inline TapBank turned_taps_of(const Tensor& weight) {
  const int64_t taps = weight.size(2) * weight.size(3);
  const auto* first = static_cast<const char*>(weight.const_data_ptr());
  return {first + (taps - 1) * static_cast<int64_t>(weight.element_size()), taps, taps * weight.size(1), true};
}

// Whether every piece says that its numbers are finite.
template <class F>
bool all_in_parallel(int64_t items, int64_t work_of_item, const F& body) {
  std::atomic<bool> sound{true};
  in_parallel(items, work_of_item, [&](int64_t begin, int64_t end) {
    if (!body(begin, end)) sound = false;
  });
  return sound;
}

// Filters as a forward job wants them, for as long as this lives.
class PackedTaps {
 public:
  PackedTaps(WinogradForwardJob& job, const WinogradKernels& kernels, const TapBank& bank, const Tensor& like)
      : packed_(scratch(kernels.packed_size(job), like)) {
    in_parallel(kernels.pack_items(job), 1 << 14,
                [&](int64_t begin, int64_t end) { kernels.pack(job, bank, packed_.get(), begin, end); });
    job.packed = packed_.get();
  }

 private:
  CallScratch packed_;
};

inline bool convolve_tiles(const WinogradForwardJob& job, const WinogradKernels& kernels) {
  return all_in_parallel(job.all_tiles(), job.input.channels * job.filters,
                         [&](int64_t begin, int64_t end) { return kernels.forward(job, begin, end); });
}

}  // namespace switchgrad
