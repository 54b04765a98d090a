"""Average, sum and adaptive average pooling are what they declare themselves to be."""

from __future__ import annotations

import conform
from declarations.avg_pool import adaptive_avg_pool, avg_pool, sum_pool

test_avg_pool1d = conform.tests(avg_pool(1), traced=False)
test_avg_pool2d = conform.tests(avg_pool(2))
test_avg_pool3d = conform.tests(avg_pool(3), traced=False)
test_sum_pool1d = conform.tests(sum_pool(1), traced=False)
test_sum_pool2d = conform.tests(sum_pool(2), traced=False)
test_sum_pool3d = conform.tests(sum_pool(3), traced=False)
test_adaptive_avg_pool1d = conform.tests(adaptive_avg_pool(1), traced=False)
test_adaptive_avg_pool2d = conform.tests(adaptive_avg_pool(2))
test_adaptive_avg_pool3d = conform.tests(adaptive_avg_pool(3), traced=False)
