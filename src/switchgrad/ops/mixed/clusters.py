"""Auto-pooling: features that follow one another in time are pooled together."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.checks import check_tensor, known_number
from switchgrad.ops.windows import FLOATS, wide


def cluster_pool(input: Tensor, logits: Tensor) -> Tensor:
    r"""Features pooled by soft clusters: each feature gives its share to every cluster.

    Shapes: ``input`` is (..., F) features, ``logits`` (K, F), the result (..., K); float64, float32, float16, bfloat16.

    .. math:: y_k = \sum_f P_{kf} x_f, \quad P_{kf} = e^{v_{kf}} / \sum_j e^{v_{jf}}

    Every share is positive and the shares of a feature sum to 1, so ``y`` holds all that ``x`` holds: the sums agree.
    The paper's pooling matrix is non-negative and its activation linear; the softmax is our way to keep it so. NaN
    spreads to all clusters of its sample.

    Backward: linear in the input; the logits get the softmax's. Raises `GeometryError` for shapes that do not match.

    Sukhbaatar, Makino, Aihara: Auto-pooling: learning to improve invariance of image features from image sequences
    (2013). Train with `auto_pooling_loss`.

    >>> import torch
    >>> sure = torch.tensor([[9.0, 9.0, 0.0], [0.0, 0.0, 9.0]]) * 9      # features 0 and 1, feature 2
    >>> cluster_pool(torch.tensor([1.0, 2.0, 5.0]), sure)
    tensor([3., 5.])
    """
    _check(input, logits)
    x = wide(input)
    shares = logits.to(x).softmax(0)
    return (x @ shares.t()).to(input.dtype)


def auto_pooling_loss(frames: Tensor, logits: Tensor, coherence: float = 1.0) -> Tensor:
    r"""What auto-pooling minimises: pooled features should change little in time, and tell much.

    Shapes: ``frames`` is (..., T, F), features of T frames in order, ``logits`` (K, F); the result is one number.

    .. math:: \frac{1}{T} \sum_t \lVert x_t - \hat x_t \rVert^2 +
        \frac{\lambda}{T - 1} \sum_t \lVert y_{t+1} - y_t \rVert^2

    averaged over the leading axes; y is `cluster_pool`, :math:`\hat x = Q^T y` puts each cluster's value back as the
    mean of its members, :math:`Q_{kf} = P_{kf} / \sum_g P_{kg}`, and :math:`\lambda` is ``coherence``. Without the
    first term the clusters would collapse: everything in one changes least.

    Sukhbaatar, Makino, Aihara (2013): the two terms are theirs; their decoder is learned freely, ours is tied to P.

    >>> import torch
    >>> frames = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])        # the first two features take turns
    >>> together, apart = torch.tensor([[9.0, 9, 0], [0, 0, 9]]) * 9, torch.tensor([[9.0, 0, 0], [0, 9, 9]]) * 9
    >>> bool(auto_pooling_loss(frames, together) < auto_pooling_loss(frames, apart))
    True
    """
    _check(frames, logits)
    if frames.dim() < 2 or frames.shape[-2] < 2:
        raise GeometryError(f"frames have shape {tuple(frames.shape)}; give (..., T, F) with at least two frames")
    x = wide(frames)
    shares = logits.to(x).softmax(0)
    pooled = x @ shares.t()
    means = shares / shares.sum(1, keepdim=True)
    back = pooled @ means
    reconstruction = (x - back).square().sum(-1).mean()
    change = pooled.diff(dim=-2).square().sum(-1).mean()
    return torch.add(reconstruction, change, alpha=known_number(coherence, "coherence"))


def _check(input: Tensor, logits: Tensor) -> None:
    check_tensor(input, "the features")
    check_tensor(logits, "logits")
    if input.dim() < 1 or logits.dim() != 2 or logits.shape[1] != input.shape[-1] or input.dtype not in FLOATS:
        raise GeometryError(
            f"the features are {tuple(input.shape)} of {input.dtype} and the logits {tuple(logits.shape)}; give "
            "(..., F) in floating point and (K, F)"
        )
