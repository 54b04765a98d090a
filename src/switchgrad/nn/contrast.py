"""Local contrast normalisation: what stands out from its neighbourhood, in units of how much it varies there."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from switchgrad.errors import GeometryError, ModelError
from switchgrad.geometry import IntOrTuple


class LocalContrastNorm(nn.Module):
    """Subtract the Gaussian mean of the neighbourhood, then divide by its Gaussian deviation, both over all maps.

    ::

        v[c, h, w] = x[c, h, w] - sum over i, r, t of g[r, t] / C  x[i, h + r, w + t]
        s[h, w]    = sqrt(sum over i, r, t of g[r, t] / C  v[i, h + r, w + t]^2)
        y[c, h, w] = v[c, h, w] / max(threshold, s[h, w])

    Shapes: ``[N, C, H, W]`` or ``[C, H, W]``, kept; any number of maps. ``kernel_size``: odd, an integer or one per
    axis, 9 in the paper. ``sigma``: the Gaussian's deviation in cells, by default a quarter of the kernel size.
    ``threshold``: a number, or by default the mean of ``s`` over the picture, taken for each picture alone, as in the
    paper; never below ``eps``, so a flat picture gives 0.

    Edges: ``g`` sums to 1 over the cells that lie inside the picture, so that a constant picture is 0 up to its
    borders (the paper leaves the border open). `subtract` and `divide` are the two halves. Backward: through both
    halves, the mean of ``s`` included; where ``s`` is below ``eps`` it counts as constant.

    Raises `ModelError` for a kernel that is even or a number that is not positive, `GeometryError` for another rank.

    K. Jarrett, K. Kavukcuoglu, M. Ranzato, Y. LeCun: What is the best multi-stage architecture for object
    recognition?, 2009, section 2.

    >>> flat = torch.full((1, 3, 16, 16), 0.5)
    >>> LocalContrastNorm(9)(flat).abs().max().item() < 1e-2
    True
    >>> x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    >>> norm = LocalContrastNorm(9)
    >>> torch.allclose(norm(x), norm(7 * x + 3))                        # neither brightness nor contrast matters
    True
    """

    def __init__(
        self,
        kernel_size: IntOrTuple = 9,
        sigma: float | None = None,
        threshold: float | None = None,
        eps: float = 1e-4,
    ) -> None:
        super().__init__()
        sizes = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(sizes) != 2 or any(size < 1 or size % 2 == 0 for size in sizes):
            raise ModelError(f"kernel_size is {kernel_size}; give an odd number of cells, or one per axis")
        for name, value in (("sigma", sigma), ("threshold", threshold), ("eps", eps)):
            if value is not None and not value > 0:
                raise ModelError(f"{name} is {value}; give a positive number")
        self.kernel_size, self.sigma, self.threshold, self.eps = sizes, sigma, threshold, eps

    def subtract(self, input: Tensor) -> Tensor:
        """The subtractive half: ``v``."""
        return input - self._mean(input)

    def divide(self, input: Tensor) -> Tensor:
        """The divisive half: ``v`` over the larger of the threshold and the local deviation."""
        deviation = self._mean(input.square()).clamp_min(self.eps**2).sqrt()
        if self.threshold is not None:
            return input / deviation.clamp_min(self.threshold)
        return input / torch.maximum(deviation, deviation.mean((-2, -1), keepdim=True))

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[N, C, H, W]`` or ``[C, H, W]``."""
        if input.dim() not in (3, 4):
            raise GeometryError(f"the input is {tuple(input.shape)}; give [N, C, H, W] or [C, H, W]")
        return self.divide(self.subtract(input))

    def _mean(self, input: Tensor) -> Tensor:
        """The Gaussian mean of the neighbourhood over all maps, ``[..., 1, H, W]``."""
        plane = input.mean(-3, keepdim=True)
        planes = plane if input.dim() == 4 else plane.unsqueeze(0)
        ones = torch.ones_like(planes[:1])
        mean = self._blurred(planes) / self._blurred(ones)
        return mean if input.dim() == 4 else mean.squeeze(0)

    def _blurred(self, planes: Tensor) -> Tensor:
        for axis, size in enumerate(self.kernel_size):
            offsets = torch.arange(size, device=planes.device, dtype=planes.dtype) - size // 2
            sigma = size / 4 if self.sigma is None else self.sigma
            gaussian = torch.exp(-(offsets**2) / (2 * sigma**2))
            kernel = (gaussian / gaussian.sum()).view(1, 1, size, 1).transpose(2, 2 + axis)
            planes = functional.conv2d(planes, kernel, padding="same")
        return planes

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return f"kernel_size={self.kernel_size}, sigma={self.sigma}, threshold={self.threshold}, eps={self.eps}"
