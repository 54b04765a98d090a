"""Floor 2: layers, thin, documented by pointing at their operators. What ``torch.nn`` has is used as it is."""

from switchgrad.nn.fused import ReLUMaxPool2d
from switchgrad.nn.mapped_conv import MappedConv2d
from switchgrad.nn.pooling import MaxPool1d, MaxPool2d, MaxPool3d, MaxUnpool1d, MaxUnpool2d, MaxUnpool3d
from switchgrad.nn.subsampling import TrainableSubsampling2d

__all__ = [
    "MappedConv2d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "ReLUMaxPool2d",
    "TrainableSubsampling2d",
]
