// Pooled numbers of boxes brought from all channels of a bin side by side to one channel after another.
#pragma once

#include "cpu/isa.h"
#include "cpu/numbers.h"
#include "cpu/windows.h"
#include "layout/job.h"

namespace switchgrad {

// Numbers of bins, one channel's after another's: as the way back goes through them.
inline Tensor in_channels(const Tensor& pooled) {
  const int64_t bytes = static_cast<int64_t>(pooled.element_size());
  if (!is_channels_last(pooled, 2) || (bytes != 4 && bytes != 8)) return made_compact(pooled, false);
  const Tensor pixels = made_compact(pooled, true);
  Tensor turned = compact(sizes_of(pooled), false, pooled.scalar_type());
  const TurnJob job{pixels.size(0), pixels.size(2) * pixels.size(3), pixels.size(1), pixels.const_data_ptr(),
                    turned.mutable_data_ptr()};
  const auto& layout = kernels<LayoutTable>(SWITCHGRAD_OF_EACH_ISA(layout_table));
  const int64_t bands = layout.bands(job);
  in_parallel(job.count * bands, bands > 0 ? job.rows * job.columns / bands : 1,
              [&](int64_t begin, int64_t end) { layout.turn[bytes == 8](job, begin, end); });
  return turned;
}

}  // namespace switchgrad
