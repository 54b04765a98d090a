"""Max pooling is what it declares itself to be."""

from __future__ import annotations

import conform
from declarations.max_pool import max_pool

test_max_pool1d = conform.tests(max_pool(1))
test_max_pool2d = conform.tests(max_pool(2))
test_max_pool3d = conform.tests(max_pool(3))
