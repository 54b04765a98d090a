"""The table of a module: its figures against PyTorch's own counter, and the module left as it was found."""

import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import switchgrad.nn
from switchgrad import models
from switchgrad.errors import ModelError
from switchgrad.models.summarise import forward


def rows_of(module, shape, **options):
    return {row.name: row for row in models.summary(module, shape, **options).rows}


def vgg16():
    layers, channels = [], 3
    for width in [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0]:
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(switchgrad.nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(25_088, 4096), nn.ReLU(), nn.Dropout()]
    head += [nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000)]
    return nn.Sequential(*layers, *head)


# --- figures -------------------------------------------------------------------------------------------------------


def test_vgg16_without_a_single_value():
    with torch.device("meta"):
        net = vgg16()
    result = models.summary(net, (3, 224, 224))
    assert result.parameters == 138_357_544  # Simonyan and Zisserman 2014, table 2: 138 million
    assert result.macs == 15_470_264_320
    pooled = 64 * 112**2 + 128 * 56**2 + 256 * 28**2 + 512 * 14**2 + 512 * 7**2
    assert result.switch_bytes == pooled
    convolved = 2 * (64 * 224**2) + 2 * (128 * 112**2) + 3 * (256 * 56**2) + 3 * (512 * 28**2) + 3 * (512 * 14**2)
    dense = 2 * (4096 + 4096) + 2 * 4096 + 1000
    assert result.activation_bytes == 4 * (2 * convolved + pooled + dense)
    last_pool = [row for row in result.rows if row.type == "MaxPool2d"][-1]
    assert (last_pool.receptive_field, last_pool.jump) == ((212, 212), (32, 32))


LAYERS = [
    (nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, dilation=(1, 2)), (4, 9, 11)),
    (nn.Conv2d(4, 8, 3, groups=2, bias=False), (4, 9, 9)),
    (nn.Conv2d(4, 8, 3, groups=4, padding="same"), (4, 8, 9)),
    (nn.Conv1d(3, 5, 4, stride=3), (3, 19)),
    (nn.Conv3d(2, 3, (1, 2, 3), padding=(0, 1, 1)), (2, 4, 5, 6)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, output_padding=1), (4, 5, 6)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1), (4, 9)),
    (nn.Linear(12, 7), (12,)),
    (nn.Linear(12, 7), (5, 12)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: type(value).__name__)
def test_macs_are_half_of_the_flops_that_pytorch_counts(layer, shape):
    result = models.summary(layer, shape)
    x = torch.zeros(1, *shape)
    with FlopCounterMode(display=False) as counter:
        y = layer(x)
    assert result.macs == counter.get_total_flops() // 2 > 0
    assert result.macs_complete
    assert result.rows[0].output_shape == tuple(y.shape[1:])
    assert result.rows[0].activation_bytes == y.numel() * 4
    assert result.parameters == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.BatchNorm2d(4), (4, 5, 6), 120),
        (nn.GroupNorm(2, 4), (4, 5, 6), 120),
        (nn.LayerNorm(6), (4, 6), 24),
        (nn.AvgPool2d(2), (4, 6, 6), 0),
        (switchgrad.nn.TrainableSubsampling2d(6), (6, 28, 28), 6 * 14 * 14),
        (switchgrad.nn.MappedConv2d(3, 2, [[0, 1], [2]], 5, padding=2), (3, 7, 9), 3 * 25 * 63),
        (nn.LSTM(3, 5, batch_first=True), (7, 3), 7 * 4 * 5 * (3 + 5)),
        (nn.GRU(3, 5, num_layers=2, batch_first=True), (7, 3), 7 * 3 * 5 * (3 + 5 + 5 + 5)),
        (nn.Embedding(10, 4), (6,), 0),
        (nn.PReLU(), (4, 5, 6), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_macs_of_other_layers(layer, shape, macs):
    integers = torch.int64 if isinstance(layer, nn.Embedding) else None
    result = models.summary(layer, shape, input_dtype=integers)
    assert result.macs == macs
    assert result.macs_complete


@pytest.mark.parametrize(
    ("pool", "bytes_a_value"),
    [
        (switchgrad.nn.MaxPool2d(2), 1),
        (switchgrad.nn.MaxPool2d(16), 2),
        (switchgrad.nn.MaxPool2d((4, 63)), 1),
        (nn.MaxPool2d(2), 8),
        (nn.AdaptiveMaxPool2d(2), 8),
        (nn.AvgPool2d(2), 0),
        (switchgrad.nn.TrainableSubsampling2d(3), 0),
    ],
    ids=repr,
)
def test_bytes_that_pooling_keeps_for_backward(pool, bytes_a_value):
    row = models.summary(pool, (3, 64, 64)).rows[0]
    values = pool(torch.zeros(1, 3, 64, 64)).numel()
    assert row.switch_bytes == values * bytes_a_value
    assert row.activation_bytes == values * 4


@pytest.mark.parametrize("options", [{"return_indices": True}, {"return_switches": True}])
def test_switches_are_counted_once_where_they_are_also_returned(options):
    row = models.summary(switchgrad.nn.MaxPool2d(2, **options), (3, 8, 8)).rows[0]
    assert (row.output_shape, row.switch_bytes, row.receptive_field) == ((3, 4, 4), 48, (2, 2))


def test_one_dimension_and_three():
    sound = nn.Sequential(nn.Conv1d(1, 4, 9, stride=4), switchgrad.nn.MaxPool1d(4))
    row = models.summary(sound, (1, 100)).rows[1]
    assert (row.output_shape, row.receptive_field, row.jump) == ((4, 5), (21,), (16,))
    video = nn.Sequential(nn.Conv3d(1, 4, (1, 3, 5)), switchgrad.nn.MaxPool3d((1, 2, 2)))
    row = models.summary(video, (1, 4, 8, 10)).rows[1]
    assert (row.output_shape, row.receptive_field, row.jump) == ((4, 4, 3, 3), (1, 4, 6), (1, 2, 2))
    assert row.switch_bytes == 4 * 4 * 3 * 3


def test_memory_in_other_dtypes():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), switchgrad.nn.MaxPool2d(2))
    half, double = (models.summary(net, (1, 8, 8), dtype=dtype) for dtype in (torch.bfloat16, torch.float64))
    assert (half.activation_bytes, double.activation_bytes) == ((72 + 18) * 2, (72 + 18) * 8)
    assert (half.parameter_bytes, half.input_bytes, half.switch_bytes) == (40, 128, 18)
    assert half.dtype == "bfloat16"


def test_views_and_in_place_layers_take_no_memory():
    rows = rows_of(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.ReLU(), nn.Sequential(), nn.Flatten()), (1, 5, 5)
    )
    assert [row.activation_bytes for row in rows.values()] == [72, 0, 72, 0, 0]


def test_frozen_and_shared_weights():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    first.weight.requires_grad_(False)
    result = models.summary(nn.Sequential(first, second, first), (4,))
    assert [row.parameters for row in result.rows] == [20, 4, 0]
    assert [row.note for row in result.rows] == ["", "shares weights with 0", "called again"]
    assert (result.parameters, result.trainable) == (24, 8)
    assert result.macs == 48


class Loose(nn.Module):
    """Weights of its own beside layers, a layer that is never called, functions outside of layers."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2, 1, 1))
        self.conv = nn.Conv2d(1, 2, 3)
        self.spare = nn.Linear(3, 3)

    def forward(self, x):
        x = functional.max_pool2d(self.conv(x) * self.scale, 2)
        return x.flatten(1) @ torch.ones(x[0].numel(), 2)


def test_weights_and_functions_outside_of_layers_are_not_lost():
    result = models.summary(Loose(), (1, 8, 8))
    rows = {row.name: row for row in result.rows}
    assert rows["(model)"].parameters == 2
    assert (rows["(model)"].macs, rows["(model)"].note) == (None, "MACs not known")
    assert (rows["spare"].parameters, rows["spare"].note) == (12, "not called")
    assert result.parameters == sum(p.numel() for p in Loose().parameters())
    assert set(result.uncounted) == {"max_pool2d", "matmul"}
    assert not result.macs_complete
    assert result.macs == 2 * 9 * 36
    assert "at least 648" in str(result)
    assert "max_pool2d" in str(result)


def test_our_own_pooling_as_a_function_is_named_too():
    class Net(nn.Module):
        def forward(self, x):
            return switchgrad.ops.max_pool2d(x, 2)

    (name,) = models.summary(Net(), (1, 8, 8)).uncounted
    assert name.startswith("max_pool")


def test_a_container_that_hands_on_a_map_does_not_count_it_twice():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(3))
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            return self.conv(x)

    rows = rows_of(Wrapper(), (1, 5, 5))
    assert (rows["conv"].activation_bytes, rows["(model)"].activation_bytes) == (72, 0)


def test_parametrised_layers_stay_one_row():
    net = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3, bias=False))
    (row,) = models.summary(net, (2, 6, 6)).rows
    assert row.parameters == 2 * 3 * 9 + 3
    assert row.macs == 2 * 3 * 9 * 16


# --- strictness ----------------------------------------------------------------------------------------------------


def test_windows_that_do_not_divide_are_noted_and_refused_when_strict():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Sequential(switchgrad.nn.MaxPool2d(2)))
    assert models.summary(net, (1, 8, 8), strict=True).rows[1].note == ""
    assert rows_of(net, (1, 8, 9))["1.0"].note == "does not divide: (9-2)/2+1 = 4.5 is not an integer"
    with pytest.raises(ModelError, match=r'layer "1\.0" \(MaxPool2d\) does not divide its input: \(9-2\)/2\+1 = 4\.5'):
        models.summary(net, (1, 8, 9), strict=True)


@pytest.mark.parametrize(
    ("layer", "shape", "note"),
    [
        (nn.Conv2d(1, 1, 3, stride=2, padding=1), (1, 6, 5), "(6-3+2)/2+1 = 3.5"),
        (nn.Conv2d(1, 1, 3, stride=3, dilation=2), (1, 6, 5), "(6-5)/3+1 = 1.3333"),
        (switchgrad.nn.MaxPool2d(3, 2, ceil_mode=True), (1, 7, 8), "(8-3)/2+1 = 3.5"),
        (nn.MaxPool1d(2), (1, 5), "(5-2)/2+1 = 2.5"),
        (nn.LPPool2d(2, 2), (1, 4, 5), "(5-2)/2+1 = 2.5"),
        (nn.AvgPool3d(2), (1, 4, 4, 5), "(5-2)/2+1 = 2.5"),
        (switchgrad.nn.TrainableSubsampling2d(1), (1, 4, 5), "(5-2)/2+1 = 2.5"),
        (switchgrad.nn.MaxPool2d(2, padding=((1, 0), (0, 0))), (1, 5, 4), None),
        (switchgrad.nn.MaxPool2d(3, 2, padding="same"), (1, 6, 5), None),
        (nn.Conv2d(1, 1, 3, padding="same", dilation=2), (1, 6, 5), None),
        (nn.Conv2d(1, 1, 1, padding=2), (1, 6, 5), None),
    ],
    ids=lambda value: str(value),
)
def test_the_note_gives_the_formula(layer, shape, note):
    (row,) = models.summary(layer, shape).rows
    assert row.note == ("" if note is None else f"does not divide: {note} is not an integer")
    assert row.output_shape == tuple(layer(torch.zeros(1, *shape)).shape[1:])


# --- the module is left as it was ----------------------------------------------------------------------------------


def hooks_of(module):
    return [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()]


def test_modes_hooks_gradients_and_buffers_are_restored(monkeypatch):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Dropout(), nn.Flatten()))
    net.train()
    net[1].eval()
    kept = net[0].register_forward_hook(lambda *_: None)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    parameters = dict(net.named_parameters())
    for small in (0, 10**12):
        monkeypatch.setattr(forward, "_SMALL_MACS", small)
        before = hooks_of(net)
        models.summary(net, (1, 6, 6))
        assert hooks_of(net) == before
        assert [part.training for part in net.modules()] == [True, True, False, True, True, True]
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
        assert all(value is parameters[key] and value.grad is None for key, value in net.named_parameters())
    kept.remove()


@pytest.mark.parametrize("small", [0, 10**12])
def test_a_failure_names_the_layer_and_leaves_nothing_behind(monkeypatch, small):
    monkeypatch.setattr(forward, "_SMALL_MACS", small)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(7, 2)).train()
    before = hooks_of(net)
    with pytest.raises(ModelError, match=r'cannot take an input of 1x6x6: layer "2" \(Linear\)'):
        models.summary(net, (1, 6, 6))
    assert hooks_of(net) == before
    assert all(part.training for part in net.modules())
    assert all(not parameter.is_meta for parameter in net.parameters())
    assert net[0](torch.zeros(1, 1, 6, 6)).shape == (1, 2, 4, 4)


class Counting(nn.Module):
    """Takes its path by the values of its input, and changes a buffer on the way."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        self.calls += 1
        return self.conv(x) if x.sum() >= 0 else x


def test_a_path_that_depends_on_values_is_run_for_real(monkeypatch):
    monkeypatch.setattr(forward, "_SMALL_MACS", 0)
    net = Counting()
    assert rows_of(net, (1, 5, 5))["conv"].output_shape == (2, 3, 3)
    assert net.calls == 0


@pytest.mark.parametrize("name", models.names())
def test_both_passes_agree(monkeypatch, name):
    net = models.create(name)
    shape = models.card(name).input_shape
    monkeypatch.setattr(forward, "_SMALL_MACS", 10**12)
    real = models.summary(net, shape)
    monkeypatch.setattr(forward, "_SMALL_MACS", 0)

    def no_real_pass(*_):
        raise AssertionError("the meta device should have been enough")

    monkeypatch.setattr(forward, "_buffers_copied", no_real_pass)
    assert models.summary(net, shape) == real


def test_no_random_number_is_drawn():
    net = nn.Sequential(nn.Dropout(), nn.Linear(4, 2))
    torch.manual_seed(0)
    models.summary(net, (4,))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))


def test_lazy_layers_get_a_sentence():
    with pytest.raises(ModelError, match="lazy layers"):
        models.summary(nn.Sequential(nn.LazyLinear(3)), (4,))


@pytest.mark.parametrize("shape", [(), (0, 4), (1, 2.5), (True, 3), (-1, 3)])
def test_shapes_that_are_none_get_a_sentence(shape):
    with pytest.raises(ModelError, match="input_shape is"):
        models.summary(nn.Identity(), shape)


# --- as text and as JSON -------------------------------------------------------------------------------------------


def test_the_text_is_aligned_and_plain():
    text = str(models.summary(models.create("lenet5"), (1, 28, 28)))
    lines = text.splitlines()
    assert lines[0] == "LeNet5, input 1x28x28 (3.1 KB), float32"
    table = lines[2:16]
    assert " ".join(table[0].split()) == "layer type output parameters MACs memory switches sees jump note"
    ends = {heading: table[0].index(heading) + len(heading) for heading in ("parameters", "MACs", "memory", "sees")}
    for line in table[2:]:
        for end in ends.values():
            assert line[end - 1] != " "
            assert line[end : end + 2].strip() == ""
    assert table[4].split() == ["s2", "MaxPool2d", "6x14x14", "0", "0", "4.6", "KB", "1.1", "KB", "6", "2"]
    assert "\x1b" not in text
    assert "\t" not in text
    assert all(line == line.rstrip() for line in lines)
    assert any(line.split()[:2] == ["parameters", "61,706"] for line in lines)


def test_the_dictionary_is_json_and_complete():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), switchgrad.nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2))
    result = models.summary(net, (3, 8, 8))
    data = json.loads(json.dumps(result.to_dict()))
    assert data["rows"][1] == {
        "name": "1",
        "type": "MaxPool2d",
        "output_shape": [4, 3, 3],
        "parameters": 0,
        "trainable": 0,
        "macs": 0,
        "activation_bytes": 144,
        "switch_bytes": 36,
        "receptive_field": [4, 4],
        "jump": [2, 2],
        "note": "",
    }
    assert data["totals"]["macs"] == 4 * 36 * 27 + 72
    assert data["totals"]["input_bytes"] == math.prod((3, 8, 8)) * 4
