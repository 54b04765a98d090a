"""What layers with a pooling window share: its arguments, their check, and how they print."""

from __future__ import annotations

from torch import nn

from switchgrad.geometry import IntOrTuple, Padding, Window, window


class Windowed(nn.Module):
    """Keeps the arguments of a pooling window, as they were given."""

    dims: int

    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode
        self.cells()  # refuses what never fits

    def cells(self) -> Window:
        """The window over an input of one cell."""
        return window(self.dims, *self.geometry(), (1,) * self.dims)

    def geometry(self) -> tuple[IntOrTuple, IntOrTuple, Padding, IntOrTuple, bool]:
        """kernel_size, stride, padding, dilation and ceil_mode: the operators' order."""
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )
