// Max pooling over windows that lie side by side, for operators that are given their windows one by one.
#pragma once

#include "common/table.h"

namespace switchgrad {

// Windows as large as their stride, without padding: by the kernels of max_pool, on all threads.
void pool_side_by_side(const PoolJob& job, Dtype dtype, bool channels_last);
void route_side_by_side(const RouteJob& job, Dtype dtype, bool channels_last);

}  // namespace switchgrad
