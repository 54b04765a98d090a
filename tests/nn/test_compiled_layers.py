"""Every layer that PyTorch lacks goes through the compiler in one piece and keeps its numbers."""

import pytest
import torch
from torch import nn

from switchgrad.nn import (
    ChannelMaxout,
    ConvPoolAdd,
    DropConnect,
    IndRNN,
    Jordan,
    LocalContrastNorm,
    LocallyConnected2d,
    Maxout,
    Residual,
)

LAYERS = {
    "LocallyConnected2d": (lambda: LocallyConnected2d(2, 4, (6, 5), 3, padding="same", groups=2), (2, 2, 6, 5)),
    "LocalContrastNorm": (lambda: LocalContrastNorm(5), (2, 3, 8, 8)),
    "Maxout": (lambda: Maxout(5, 4, 3), (2, 5)),
    "ChannelMaxout": (lambda: ChannelMaxout(2), (2, 4, 3, 3)),
    "DropConnect": (lambda: DropConnect(5, 4).eval(), (2, 5)),
    "Residual": (lambda: Residual(nn.Linear(4, 4)), (2, 4)),
    "ConvPoolAdd": (lambda: ConvPoolAdd(3, 8), (2, 3, 6, 6)),
    "IndRNN": (lambda: IndRNN(3, 4, bidirectional=True), (3, 2, 3)),
    "Jordan": (lambda: Jordan(3, 4, 2, decay=0.1), (3, 2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_compiled_layer_keeps_values_and_gradients(name):
    torch.manual_seed(0)
    torch.compiler.reset()
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(shape, requires_grad=True)
    found = []
    for call in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
        y = call(x)
        y = y[0] if isinstance(y, tuple) else y
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    torch.testing.assert_close(*found)
