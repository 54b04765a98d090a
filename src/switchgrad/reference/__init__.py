"""Forward and backward of every layer, written out: no tape, one short file a layer, to be read as mathematics.

Every layer is an object with two methods (`Layer`), its settings are its fields, and it holds no numbers of its own::

    y, kept = layer.forward(x, w, b)            # input first, then parameters
    dx, dw, db = layer.backward(delta, kept)    # delta = dJ/dy; one gradient for each argument of forward, in order

``kept`` is what the backward needs of the forward (a layer's own business). What is not differentiable, such as
labels, masks and fixed statistics, gets None. Losses are layers whose output is the number J, so their delta is 1.
Random masks are arguments, drawn beforehand with a generator (``Dropout.draw``). Where training and evaluation
differ, they are two layers.

An update rule (`Rule`) turns a parameter and its gradient into the next parameter::

    memory = rule.start(theta)
    theta, memory = rule.step(theta, gradient, memory)

Recurrent layers are a `Cell` for one step and a way of learning through time: ``BPTT(LSTM())`` is a layer over a
sequence, `TruncatedBPTT` its shorter form, `RTRL` learns as it goes.

`Network` is a list of layers with ``forward``, ``backward`` and ``update``; `switchgrad.reference.lenet5` trains one.

Sequences are learnt by layers over cells of one step (`switchgrad.reference.recurrent`): ``BPTT(Elman())``.

Notation: x, w, b, y for maps ``[N, C, *H]`` with any number of spatial axes ``*H``, filters and outputs; a, W, b, z
for layers of units ``[N, I]``, examples as rows; delta for dJ/d(output); ``dx`` for dJ/dx; ``(.)`` multiplies number
by number; ``1{...}`` is 1 where the condition holds, else 0; p a place, r a cell of the window.

The tests hold every layer against PyTorch's autograd and against finite differences, in double precision.
"""

from switchgrad.reference.activation.elu import ELU
from switchgrad.reference.activation.leaky_relu import LeakyReLU
from switchgrad.reference.activation.maxout import Maxout
from switchgrad.reference.activation.prelu import PReLU
from switchgrad.reference.activation.relu import ReLU
from switchgrad.reference.activation.sigmoid import Sigmoid
from switchgrad.reference.activation.softmax import Softmax
from switchgrad.reference.activation.tanh import Tanh
from switchgrad.reference.convolution.depthwise import DepthwiseConvolution
from switchgrad.reference.convolution.im2col import ConvolutionIm2col
from switchgrad.reference.convolution.locally_connected import LocallyConnected
from switchgrad.reference.convolution.loops import Convolution
from switchgrad.reference.convolution.pointwise import PointwiseConvolution
from switchgrad.reference.convolution.transposed import TransposedConvolution
from switchgrad.reference.dropout.drop_connect import DropConnect
from switchgrad.reference.dropout.dropout import Dropout
from switchgrad.reference.dropout.spatial_dropout import SpatialDropout
from switchgrad.reference.layer import Layer, Rule
from switchgrad.reference.linear import Linear
from switchgrad.reference.loss.binary_cross_entropy import BinaryCrossEntropy
from switchgrad.reference.loss.contrastive import Contrastive
from switchgrad.reference.loss.cross_entropy import CrossEntropy
from switchgrad.reference.loss.hinge import Hinge
from switchgrad.reference.loss.squared_error import SquaredError
from switchgrad.reference.loss.triplet import Triplet
from switchgrad.reference.network import Network
from switchgrad.reference.normalisation.batch_norm import BatchNorm
from switchgrad.reference.normalisation.batch_norm_evaluation import BatchNormEvaluation, running_statistics
from switchgrad.reference.normalisation.local_contrast_norm import LocalContrastNorm
from switchgrad.reference.normalisation.local_response_norm import LocalResponseNorm
from switchgrad.reference.normalisation.unit_length import UnitLength
from switchgrad.reference.pooling.average_pool import AveragePool
from switchgrad.reference.pooling.lp_pool import LpPool
from switchgrad.reference.pooling.max_pool import MaxPool
from switchgrad.reference.pooling.switch_pool import SwitchPool
from switchgrad.reference.recurrent import BPTT, GRU, LSTM, RTRL, Cell, Elman, IndRNN, Jordan, TruncatedBPTT
from switchgrad.reference.shape.add import Add
from switchgrad.reference.shape.concat import Concat
from switchgrad.reference.shape.flatten import Flatten
from switchgrad.reference.update.adam import Adam
from switchgrad.reference.update.momentum import Momentum
from switchgrad.reference.update.nesterov import Nesterov
from switchgrad.reference.update.sgd import SGD
from switchgrad.reference.update.weight_decay import WeightDecay

__all__ = [
    "BPTT",
    "ELU",
    "GRU",
    "LSTM",
    "RTRL",
    "SGD",
    "Adam",
    "Add",
    "AveragePool",
    "BatchNorm",
    "BatchNormEvaluation",
    "BinaryCrossEntropy",
    "Cell",
    "Concat",
    "Contrastive",
    "Convolution",
    "ConvolutionIm2col",
    "CrossEntropy",
    "DepthwiseConvolution",
    "DropConnect",
    "Dropout",
    "Elman",
    "Flatten",
    "Hinge",
    "IndRNN",
    "Jordan",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LocalContrastNorm",
    "LocalResponseNorm",
    "LocallyConnected",
    "LpPool",
    "MaxPool",
    "Maxout",
    "Momentum",
    "Nesterov",
    "Network",
    "PReLU",
    "PointwiseConvolution",
    "ReLU",
    "Rule",
    "Sigmoid",
    "Softmax",
    "SpatialDropout",
    "SquaredError",
    "SwitchPool",
    "Tanh",
    "TransposedConvolution",
    "Triplet",
    "TruncatedBPTT",
    "UnitLength",
    "WeightDecay",
    "running_statistics",
]
