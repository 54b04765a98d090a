"""Stochastic pooling and max-pooling dropout are what they declare themselves to be, word for word."""

from __future__ import annotations

import conform
from declarations.random_pool import DROPOUT_MUTANTS, STOCHASTIC_MUTANTS, few, random_pool

test_stochastic_pool1d = conform.tests(random_pool("stochastic_pool", 1), traced=False)
test_stochastic_pool2d = conform.tests(random_pool("stochastic_pool", 2))
test_stochastic_pool3d = conform.tests(random_pool("stochastic_pool", 3), traced=False)
test_max_pool_dropout1d = conform.tests(random_pool("max_pool_dropout", 1), traced=False)
test_max_pool_dropout2d = conform.tests(random_pool("max_pool_dropout", 2), traced=False)
test_max_pool_dropout3d = conform.tests(random_pool("max_pool_dropout", 3), traced=False)
test_stochastic_mutant = conform.mutant_tests(few(random_pool("stochastic_pool", 2), STOCHASTIC_MUTANTS))
test_dropout_mutant = conform.mutant_tests(few(random_pool("max_pool_dropout", 2), DROPOUT_MUTANTS))
