"""The local rule of each layer and function in words: what goes forward, and what is sent back for what comes back.

Letters: ``x`` input, ``y`` output, ``w`` weight, ``b`` bias; ``dx`` is the gradient of the loss by ``x``, and so on.
"""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

from torch import nn

from switchgrad import ops


class Rule(NamedTuple):
    """Both directions in a sentence or two."""

    forward: str
    backward: str


_CONVOLUTION = Rule(
    "y at each place = the sum over the window of w · x, plus b; the same w at every place.",
    "dw = the sum over all places of dy · the window of x (shared weights add up). dx = every window's w · dy, added "
    "where windows overlap (a correlation of dy with the kernel turned by 180°). db = the sum of dy.",
)
_TRANSPOSED = Rule(
    "every cell of x lays down w · x over a window of y; where windows overlap they add, plus b.",
    "dx = the ordinary convolution of dy with w. dw = the sum over all places of x · the window of dy. db = the sum "
    "of dy.",
)
_LINEAR = Rule("y = W x + b.", "dW = dy xᵀ (summed over the batch), db = dy, dx = Wᵀ dy.")
_MAX_POOL = Rule(
    "the largest value of each window; its place in the window is kept, the switch. Of equals the first wins.",
    "dy goes to the winner alone, where the switch says; every other cell gets 0. A cell that won several windows "
    "gets their sum.",
)
_AVERAGE_POOL = Rule("the mean of each window.", "every cell of a window of n cells gets dy / n; overlaps add.")
_RELU = Rule("max(0, x).", "dx = dy where x > 0, else 0 (at exactly 0, too).")
_SIGMOID = Rule("y = 1 / (1 + e⁻ˣ).", "dx = dy · y (1 − y): at most a quarter, next to nothing where y is near 0 or 1.")
_TANH = Rule("y = tanh x.", "dx = dy · (1 − y²).")
_SOFTMAX = Rule("y = eˣ / Σ eˣ.", "dx = y · (dy − Σ y dy): a score is judged against the mean.")
_LOG_SOFTMAX = Rule("y = x − log Σ eˣ.", "dx = dy − eʸ · Σ dy.")
_BATCH_NORM = Rule(
    "y = γ x̂ + β with x̂ = (x − mean) / √(variance + ε), over batch and places of each channel (in evaluation the "
    "running statistics).",
    "dγ = Σ dy x̂, dβ = Σ dy; dx = γ/σ · (dy − mean(dy) − x̂ · mean(dy x̂)): the statistics send back, too (in "
    "evaluation dx = γ/σ · dy).",
)
_LAYER_NORM = Rule(
    "y = γ x̂ + β with x̂ = (x − mean) / √(variance + ε) over each sample's own values.",
    "dγ = Σ dy x̂, dβ = Σ dy; with g = γ dy: dx = (g − mean(g) − x̂ · mean(g x̂)) / σ.",
)
_DROPOUT = Rule(
    "values are dropped with probability p, the others divided by 1 − p (in evaluation: nothing happens).",
    "the same mask: dx = dy / (1 − p) where x was kept, 0 where it was dropped.",
)
_RESHAPE = Rule("the same numbers in another shape.", "dy takes back the shape of x; no number changes.")
_MOVE = Rule("some or all of the numbers, at other places.", "dy goes back to where the numbers were; the rest gets 0.")
_EMBEDDING = Rule("row x of the table w.", "each row of dw = the sum of dy over the places that read it; others 0.")
_RECURRENT = Rule(
    "step by step along the sequence: the state is made of the input and of the state before.",
    "backpropagation through time: dy of every step and the gradient of the later states go back from the last step to "
    "the first; the weights' gradients are the sum over all steps.",
)
_ADD = Rule("x₁ + x₂.", "both get dy (summed over axes that were broadcast): a sum copies the gradient.")
_SUB = Rule("x₁ − x₂.", "x₁ gets dy, x₂ gets −dy.")
_MUL = Rule("x₁ · x₂.", "each gets dy times the other.")
_DIV = Rule("x₁ / x₂.", "dx₁ = dy / x₂, dx₂ = −dy · y / x₂.")
_MATMUL = Rule("x₁ x₂, as matrices.", "dx₁ = dy x₂ᵀ, dx₂ = x₁ᵀ dy.")
_CAT = Rule("the inputs side by side.", "dy is cut where they were joined; each input gets its piece.")
_MEAN = Rule("the mean of n values.", "each of them gets dy / n.")
_SUM = Rule("the sum.", "every addend gets dy.")
_LARGEST = Rule("the largest value.", "dy goes to the largest; equal ones share it or the first takes all.")

_TEX = (
    *((r"\partial ", "∂"), (r"\sum", "Σ"), (r"\alpha", "α"), (r"\beta", "β"), (r"\gamma", "γ"), (r"\sigma", "σ")),
    *((r"\lambda", "λ"), (r"\mu", "μ"), (r"\cdot", "·"), (r"\; ", " "), (r"\, ", " ")),
)
_LAYERS: dict[str, Rule] = {
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), _CONVOLUTION),
    **dict.fromkeys(("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"), _TRANSPOSED),
    "MappedConv2d": Rule(
        "a convolution in which each output map sees only the input maps that a table lists for it.",
        _CONVOLUTION.backward + " Connections that are not in the table have no weight and send nothing.",
    ),
    "Linear": _LINEAR,
    **dict.fromkeys((f"{kind}MaxPool{d}d" for kind in ("", "Adaptive", "Fractional") for d in (1, 2, 3)), _MAX_POOL),
    **dict.fromkeys((f"{kind}AvgPool{d}d" for kind in ("", "Adaptive") for d in (1, 2, 3)), _AVERAGE_POOL),
    **dict.fromkeys(
        (f"MaxUnpool{d}d" for d in (1, 2, 3)),
        Rule("each value back at its winner's place, 0 elsewhere.", "dx = dy at the winners' places."),
    ),
    "TrainableSubsampling2d": Rule(
        "coefficient · the sum of the window + bias, one pair a map.",
        "every cell of the window gets coefficient · dy; the coefficient gets Σ dy · the window's sum; the bias Σ dy.",
    ),
    "ReLU": _RELU,
    "ReLU6": Rule("min(max(0, x), 6).", "dx = dy where 0 < x < 6, else 0."),
    "LeakyReLU": Rule("x where x > 0, else α x.", "dx = dy where x > 0, else α dy."),
    "PReLU": Rule(
        "x where x > 0, else a x, with a learned.", "dx = dy where x > 0, else a dy; da = Σ dy x where x ≤ 0."
    ),
    "ELU": Rule("x where x > 0, else α (eˣ − 1).", "dx = dy where x > 0, else dy · (y + α)."),
    "GELU": Rule("x Φ(x), Φ the normal distribution.", "dx = dy · (Φ(x) + x φ(x))."),
    "SiLU": Rule("y = x σ(x).", "dx = dy · σ(x) (1 + x (1 − σ(x)))."),
    "Sigmoid": _SIGMOID,
    "Tanh": _TANH,
    "ScaledTanh": Rule("y = 1.7159 tanh(2/3 x).", "dx = dy · 2/3 · (1.7159 − y² / 1.7159)."),
    "Softplus": Rule("log(1 + eˣ).", "dx = dy · σ(x)."),
    "Softmax": _SOFTMAX,
    "LogSoftmax": _LOG_SOFTMAX,
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"), _BATCH_NORM),
    **dict.fromkeys(("LayerNorm", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"), _LAYER_NORM),
    "LocalResponseNorm": Rule(
        "y = x / (k + α/n Σ x²)^β, the sum over n neighbouring channels.",
        "dx = dy / (…)^β, less what x did to the sums of its neighbours.",
    ),
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout"), _DROPOUT),
    **dict.fromkeys(("Flatten", "Unflatten"), _RESHAPE),
    "Identity": Rule("y = x.", "dx = dy."),
    **dict.fromkeys(("Embedding", "EmbeddingBag"), _EMBEDDING),
    **dict.fromkeys(("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"), _RECURRENT),
    **dict.fromkeys(
        ("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d", "Resize"),
        Rule(
            "each output is a weighted mean of nearby inputs.", "dx = dy by the same weights, added up at each input."
        ),
    ),
    **dict.fromkeys(
        (f"{kind}Pad{d}d" for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular") for d in (1, 2, 3)),
        Rule(
            "x with a border: zeros, a constant, or copies of cells of x.",
            "dy without the border; where the border copied a cell of x, its dy is added to that cell.",
        ),
    ),
}

_FUNCTIONS: dict[str, Rule] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _CONVOLUTION),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _TRANSPOSED),
    "linear": _LINEAR,
    **dict.fromkeys((f"{kind}max_pool{d}d" for kind in ("", "adaptive_") for d in (1, 2, 3)), _MAX_POOL),
    **dict.fromkeys((f"max_pool{d}d_with_indices" for d in (1, 2, 3)), _MAX_POOL),
    **dict.fromkeys((f"{kind}avg_pool{d}d" for kind in ("", "adaptive_") for d in (1, 2, 3)), _AVERAGE_POOL),
    "relu": _RELU,
    "leaky_relu": _LAYERS["LeakyReLU"],
    "elu": _LAYERS["ELU"],
    "gelu": _LAYERS["GELU"],
    "silu": _LAYERS["SiLU"],
    "sigmoid": _SIGMOID,
    "tanh": _TANH,
    "softplus": _LAYERS["Softplus"],
    "softmax": _SOFTMAX,
    "log_softmax": _LOG_SOFTMAX,
    "batch_norm": _BATCH_NORM,
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm"), _LAYER_NORM),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d"), _DROPOUT),
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "view_as"), _RESHAPE),
    **dict.fromkeys(("permute", "transpose", "t", "T", "mT", "swapaxes", "movedim", "flip", "roll"), _MOVE),
    **dict.fromkeys(("getitem", "select", "narrow", "chunk", "split", "unbind", "gather", "index_select"), _MOVE),
    "embedding": _EMBEDDING,
    "add": _ADD,
    "sub": _SUB,
    "mul": _MUL,
    "multiply": _MUL,
    **dict.fromkeys(("div", "truediv", "divide"), _DIV),
    **dict.fromkeys(("matmul", "mm", "bmm"), _MATMUL),
    **dict.fromkeys(("cat", "concat", "stack"), _CAT),
    "mean": _MEAN,
    "sum": _SUM,
    **dict.fromkeys(("max", "amax", "maximum"), _LARGEST),
    "exp": Rule("y = eˣ.", "dx = dy · y."),
    "log": Rule("log x.", "dx = dy / x."),
    "sqrt": Rule("y = √x.", "dx = dy / 2y."),
    "neg": Rule("−x.", "dx = −dy."),
    "abs": Rule("|x|.", "dx = dy · the sign of x (0 at 0)."),
    "pow": Rule("xⁿ.", "dx = dy · n xⁿ⁻¹."),
    "clone": Rule("y = x.", "dx = dy."),
    "contiguous": Rule("y = x, laid out anew.", "dx = dy."),
}


def layer_rule(layer: nn.Module, functions: tuple[str, ...] = ()) -> Rule:
    """The rule of a layer: by its class, else by its docstring's word on the backward, else by what it called.

    >>> layer_rule(nn.ReLU()).backward
    'dx = dy where x > 0, else 0 (at exactly 0, too).'
    """
    ours = [kind for kind in type(layer).__mro__ if kind.__module__.startswith(("torch.nn.", "switchgrad."))]
    for kind in ours:
        if kind.__name__ in _LAYERS:
            return _LAYERS[kind.__name__]
    told = documented(type(layer))
    if told is not None:
        return told
    if functions:
        names = ", ".join(dict.fromkeys(functions))
        return Rule(f"what its own code says; it calls {names}.", f"the tape goes back through {names}, last to first.")
    return Rule("what its own code says.", "what its own backward says.")


def function_rule(name: str, function: object = None) -> Rule:
    """The rule of a function by its name, else by its docstring's word on the backward.

    >>> function_rule("add").backward
    'both get dy (summed over axes that were broadcast): a sum copies the gradient.'
    """
    told = _FUNCTIONS.get(name) or documented(function)
    return told or Rule(f"PyTorch's {name}.", f"PyTorch's own derivative of {name}.")


def unseen_rule(nodes: str) -> Rule:
    """What can be said of tensors that no hook saw made."""
    return Rule(
        "made where a trace cannot look (a function of its own kind, or code outside of PyTorch's functions).",
        f"the tape holds {nodes} here; what it sends back is seen at the step before.",
    )


def documented(thing: object) -> Rule | None:
    """The first sentence of a docstring and its paragraph that begins with ``Backward:``, in plain text.

    A layer's docstring may point at its operator's, and an operator of one or three axes at that of two.

    >>> import switchgrad
    >>> documented(switchgrad.nn.SoftPool1d) == documented(switchgrad.ops.soft_pool2d)
    True
    """
    text = "" if thing is None else inspect.getdoc(thing) or ""
    backward = re.search(r"Backward: (.*?)(?:\n\n|\Z)", text, re.DOTALL)
    if backward is not None:
        return Rule(_plain(text.split("\n\n")[0]), _plain(backward[1]))
    pointed = re.search(r"`(?:switchgrad\.ops\.)?(\w+_\w+|\w+pool\dd)`", text)
    operator = None if pointed is None else getattr(ops, pointed[1], None)
    return None if operator is None or operator is thing else documented(operator)


def _plain(text: str) -> str:
    """A docstring's sentence without markup, and without what it raises."""
    without = re.sub(r":\w+:(?=`)", "", " ".join(text.split()).split(" Raises ")[0])
    for tex, sign in _TEX:
        without = without.replace(tex, sign)
    return without.replace("``", "").replace("`", "")
