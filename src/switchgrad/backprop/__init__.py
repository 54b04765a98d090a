"""Changing the backward: what gradients do on their way, while the forward stays as it is.

`routing` and `relu`, `max_pool`: rules for ReLU and pooling that explanations use. `meprop`: only the largest
gradients. `noisy_cross_entropy`, `noisy_gradient`: noise. `stop_gradient`, `reverse_gradient`, `with_gradient_of`:
gates. `optimise_input`: activations or pixels change, weights stay. `spike`: surrogate gradients for spiking units.
"""

from switchgrad.backprop.activation_only import Optimised, frozen, optimise_input
from switchgrad.backprop.gates import (
    GradientReversal,
    StopGradient,
    reversal_strength,
    reverse_gradient,
    stop_gradient,
    with_gradient_of,
)
from switchgrad.backprop.meprop import MeProp, meprop, meprop_layers
from switchgrad.backprop.noise import em_condition, em_noise, noisy_cross_entropy, noisy_gradient
from switchgrad.backprop.routing import routing
from switchgrad.backprop.rules import POOL_RULES, RELU_RULES, max_pool, relu
from switchgrad.backprop.spiking import SURROGATES, LeakyIntegrateAndFire, SpikingConvNet, spike

__all__ = [
    "POOL_RULES",
    "RELU_RULES",
    "SURROGATES",
    "GradientReversal",
    "LeakyIntegrateAndFire",
    "MeProp",
    "Optimised",
    "SpikingConvNet",
    "StopGradient",
    "em_condition",
    "em_noise",
    "frozen",
    "max_pool",
    "meprop",
    "meprop_layers",
    "noisy_cross_entropy",
    "noisy_gradient",
    "optimise_input",
    "relu",
    "reversal_strength",
    "reverse_gradient",
    "routing",
    "spike",
    "stop_gradient",
    "with_gradient_of",
]
