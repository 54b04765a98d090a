"""What training sets around itself, and gives back."""

from __future__ import annotations

import pytest
import torch

from switchgrad.train.environment import deterministic_cudnn


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("tf32", [True, False])
def test_deterministic_cudnn_leaves_the_rest_as_the_user_set_it(enabled: bool, tf32: bool) -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    with cudnn.flags(enabled=enabled, benchmark=True, allow_tf32=tf32):
        with deterministic_cudnn():
            assert (cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == (
                enabled,
                True,
                False,
                tf32,
            )
        assert (cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == (enabled, False, True, tf32)
    assert (cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == before
