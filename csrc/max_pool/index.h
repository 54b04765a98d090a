// Going by the switch, one cell at a time: flat indices, the winners' values, and unpooling by flat indices.
#pragma once

#include "common/table.h"

namespace switchgrad {

// Where the winners of an image's windows lie. `step` is what one cell along d, h, w is worth in the wanted offset.
struct Winners {
  Window window;
  int64_t step[3];

  // The offset of the cell that `code` names in window `place` (flat, row-major); -1 for none, -2 for a code that
  // points outside the window or the input (switches of another pooling).
  int64_t offset(int64_t place, int64_t code, int64_t none) const {
    if (code == none) return -1;
    if (code < 0 || code >= window.cells()) return -2;
    int64_t offset = 0;
    for (int i = 2; i >= 0; --i) {
      const Axis& axis = window.axis[i];
      const int64_t at = axis.start(place % axis.places) + code % axis.kernel * axis.dilation;
      if (at < 0 || at >= axis.size) return -2;
      offset += at * step[i];
      place /= axis.places;
      code /= axis.kernel;
    }
    return offset;
  }
};

// Calls body(plane, place, at, code) for every pooled cell of planes begin .. end - 1, `at` in the layout of the codes.
template <class Code, class F>
void for_each_code(const RouteJob& job, bool channels_last, int64_t begin, int64_t end, F&& body) {
  const int64_t places = job.window.output_cells();
  const auto* codes = static_cast<const Code*>(job.codes);
  for (int64_t plane = begin; plane < end; ++plane) {
    const int64_t n = plane / job.channels, c = plane % job.channels;
    const int64_t first = channels_last ? n * places * job.channels + c : plane * places;
    const int64_t apart = channels_last ? job.channels : 1;
    for (int64_t place = 0; place < places; ++place) {
      const int64_t at = first + place * apart;
      body(plane, place, at, static_cast<int64_t>(codes[at]));
    }
  }
}

}  // namespace switchgrad
