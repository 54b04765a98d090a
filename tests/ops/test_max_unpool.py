"""Max unpooling is what it declares itself to be."""

from __future__ import annotations

import conform
from declarations.max_pool import max_unpool

test_max_unpool1d = conform.tests(max_unpool(1))
test_max_unpool2d = conform.tests(max_unpool(2))
test_max_unpool3d = conform.tests(max_unpool(3))
