// Fused blocks that are computed with fewer products, in Winograd's tiles, where these are worth it.
#pragma once

#include "conv_pool/job.h"
#include "cpu/tensors.h"

namespace switchgrad {

// Convolves and pools. False where tiles cannot serve, would not be worth it or met a number that is not finite: then
// nothing that was written counts.
bool pool_in_tiles(const ConvPoolForwardJob& job, const Tensor& input, const Tensor& weight, const void* bias);

}  // namespace switchgrad
