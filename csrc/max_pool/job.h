// What crosses from the checks to the kernels of max pooling, besides what common/table.h has.
#pragma once

#include "common/table.h"

namespace switchgrad {

// Channels that one item of the channels-last scatter has, at most.
constexpr int64_t scatter_chunk = 256;

// Kernels do items begin .. end - 1: chunks of an image's channels. Codes are bytes; the bits are those of the route.
struct MaxScatterTable {
  RouteKernel channels_last[dtype_count];
};

}  // namespace switchgrad
