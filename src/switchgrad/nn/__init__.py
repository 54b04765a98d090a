"""Floor 2: layers, thin, documented by pointing at their operators. What ``torch.nn`` has is used as it is."""

from switchgrad.nn.as_convolution import conv_to_linear, linear_to_conv
from switchgrad.nn.attention import (
    GeneralPool1d,
    GeneralPool2d,
    GeneralPool3d,
    LIPPool1d,
    LIPPool2d,
    LIPPool3d,
    SoftPool1d,
    SoftPool2d,
    SoftPool3d,
)
from switchgrad.nn.contrast import LocalContrastNorm
from switchgrad.nn.drop_connect import DropConnect
from switchgrad.nn.fully_convolutional import to_fully_convolutional
from switchgrad.nn.fused import ReLUMaxPool2d
from switchgrad.nn.locally_connected import LocallyConnected1d, LocallyConnected2d
from switchgrad.nn.mapped_conv import MappedConv2d
from switchgrad.nn.maxout import ChannelMaxout, Maxout
from switchgrad.nn.mixed import (
    GatedPool1d,
    GatedPool2d,
    GatedPool3d,
    MixedPool1d,
    MixedPool2d,
    MixedPool3d,
    TreePool1d,
    TreePool2d,
    TreePool3d,
)
from switchgrad.nn.pooling import MaxPool1d, MaxPool2d, MaxPool3d, MaxUnpool1d, MaxUnpool2d, MaxUnpool3d
from switchgrad.nn.recurrent import IndRNN, Jordan
from switchgrad.nn.recurrent_cells import IndRNNCell, JordanCell
from switchgrad.nn.regions import PSRoIAlign, PSRoIPool, RoIAlign, RoIAvgPool, RoIPool
from switchgrad.nn.residual import ConvPoolAdd, Residual
from switchgrad.nn.sequences import AutoPool, ClusterPool, ExpectationPool
from switchgrad.nn.stochastic import (
    FractionalMaxPool2d,
    FractionalMaxPool3d,
    MaxPoolDropout1d,
    MaxPoolDropout2d,
    MaxPoolDropout3d,
    S3Pool1d,
    S3Pool2d,
    S3Pool3d,
    StochasticPool1d,
    StochasticPool2d,
    StochasticPool3d,
)
from switchgrad.nn.subsampling import TrainableSubsampling2d

__all__ = [
    "AutoPool",
    "ChannelMaxout",
    "ClusterPool",
    "ConvPoolAdd",
    "DropConnect",
    "ExpectationPool",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "GatedPool1d",
    "GatedPool2d",
    "GatedPool3d",
    "GeneralPool1d",
    "GeneralPool2d",
    "GeneralPool3d",
    "IndRNN",
    "IndRNNCell",
    "Jordan",
    "JordanCell",
    "LIPPool1d",
    "LIPPool2d",
    "LIPPool3d",
    "LocalContrastNorm",
    "LocallyConnected1d",
    "LocallyConnected2d",
    "MappedConv2d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxPoolDropout1d",
    "MaxPoolDropout2d",
    "MaxPoolDropout3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "Maxout",
    "MixedPool1d",
    "MixedPool2d",
    "MixedPool3d",
    "PSRoIAlign",
    "PSRoIPool",
    "ReLUMaxPool2d",
    "Residual",
    "RoIAlign",
    "RoIAvgPool",
    "RoIPool",
    "S3Pool1d",
    "S3Pool2d",
    "S3Pool3d",
    "SoftPool1d",
    "SoftPool2d",
    "SoftPool3d",
    "StochasticPool1d",
    "StochasticPool2d",
    "StochasticPool3d",
    "TrainableSubsampling2d",
    "TreePool1d",
    "TreePool2d",
    "TreePool3d",
    "conv_to_linear",
    "linear_to_conv",
    "to_fully_convolutional",
]
