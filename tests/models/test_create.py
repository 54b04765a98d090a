"""Names, cards, and what `create` refuses. Every figure on a card is recomputed here by hand."""

import json
from dataclasses import FrozenInstanceError

import pytest
import torch

from switchgrad import models
from switchgrad.errors import ModelError

# Each layer's parameters and multiply-adds, written out from the descriptions in the papers.
LENET5 = {
    "c1": ((25 * 1 + 1) * 6, 25 * 1 * 6 * 28 * 28),
    "c3": ((25 * 6 + 1) * 16, 25 * 6 * 16 * 10 * 10),
    "c5": ((400 + 1) * 120, 400 * 120),
    "f6": ((120 + 1) * 84, 120 * 84),
    "output": ((84 + 1) * 10, 84 * 10),
}
LENET5_1998 = {
    "c1": (156, 25 * 6 * 28 * 28),
    "s2": (12, 6 * 14 * 14),
    "c3": (1_516, 25 * 60 * 10 * 10),
    "s4": (32, 16 * 5 * 5),
    "c5": (48_120, 25 * 16 * 120),
    "f6": (10_164, 120 * 84),
    "output": (850, 84 * 10),
}
CONVNET = {
    "conv1": ((9 * 1 + 1) * 32, 9 * 1 * 32 * 26 * 26),
    "conv2": ((9 * 32 + 1) * 64, 9 * 32 * 64 * 11 * 11),
    "output": ((1600 + 1) * 10, 1600 * 10),
}
BY_HAND = {"lenet5": LENET5, "lenet5-1998": LENET5_1998, "convnet": CONVNET}


def test_names_are_sorted_and_complete():
    assert models.names() == sorted(BY_HAND)


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_parameters_and_macs_layer_by_layer(name):
    card = models.card(name)
    net = models.create(name)
    rows = {row.name: row for row in models.summary(net, card.input_shape).rows}
    costs = {key: (row.parameters, row.macs) for key, row in rows.items() if row.parameters or row.macs}
    assert costs == BY_HAND[name]
    for layer, (parameters, _) in BY_HAND[name].items():
        assert sum(p.numel() for p in net.get_submodule(layer).parameters()) == parameters


@pytest.mark.parametrize(("name", "parameters"), [("lenet5", 61_706), ("lenet5-1998", 60_850), ("convnet", 34_826)])
def test_totals_on_the_card(name, parameters):
    card = models.card(name)
    assert card.name == name
    assert sum(p.numel() for p in models.create(name).parameters()) == card.parameters == parameters
    assert card.macs == sum(macs for _, macs in BY_HAND[name].values())
    assert card.parameters == sum(count for count, _ in BY_HAND[name].values())


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_taps_are_the_shapes_of_a_real_pass(name):
    card = models.card(name)
    net = models.create(name).eval()
    seen = {}
    for tap in card.taps:
        layer = net.get_submodule(tap)
        layer.register_forward_hook(lambda _, __, y, tap=tap: seen.update({tap: tuple(y.shape[1:])}))
    scores = net(torch.randn(2, *card.input_shape))
    assert seen == dict(card.taps)
    assert tuple(scores.shape) == (2, *card.output_shape) == (2, card.num_classes)


def test_cards_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        models.card("lenet5").parameters = 1


@pytest.mark.parametrize("name", sorted(BY_HAND))
@pytest.mark.parametrize(
    ("channels", "size", "classes"), [(1, (8, 8), 10), (3, (32, 32), 100), (3, (224, 224), 2), (2, (9, 40), 3)]
)
def test_any_size_and_channels(name, channels, size, classes):
    torch.manual_seed(0)
    net = models.create(name, num_classes=classes, in_channels=channels, input_size=size).eval()
    x = torch.randn(2, channels, *size)
    scores = net(x)
    assert scores.shape == (2, classes)
    # Every picture is answered alone, and every channel counts.
    torch.testing.assert_close(net(x[1:]), scores[1:], rtol=1e-4, atol=1e-5)
    for channel in range(channels):
        other = x.clone()
        other[:, channel] += torch.randn(size)
        assert not torch.allclose(net(other), scores)


@pytest.mark.parametrize(
    ("name", "layer", "features"),
    [
        # lenet5: 12-6-2-1 without padding C3; 11-5-5-2 and 4-2-2-1 with it.
        ("lenet5", "c5", {12: 16, 11: 16 * 4, 4: 16}),
        # convnet: 10-8-4-2-1 without padding; 9-9-4-4-2 and 4-4-2-2-1 with it.
        ("convnet", "output", {10: 64, 9: 64 * 4, 4: 64}),
    ],
)
def test_small_pictures_are_padded_as_documented(name, layer, features):
    for pixels, count in features.items():
        net = models.create(name, input_size=(pixels, pixels))
        assert net.get_submodule(layer).in_features == count
        assert net.eval()(torch.zeros(1, 1, pixels, pixels)).shape == (1, 10)
    wide = models.create(name, input_size=(9, 28)).get_submodule("c3" if name == "lenet5" else "conv2")
    assert wide.padding == ((2, 0) if name == "lenet5" else (1, 0))


def test_lists_are_sizes_too():
    assert models.create("lenet5", input_size=[28, 28])(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def test_same_seed_same_weights():
    def weights(name):
        torch.manual_seed(5)
        return torch.nn.utils.parameters_to_vector(models.create(name).parameters())

    for name in models.names():
        assert torch.equal(weights(name), weights(name))


@pytest.mark.parametrize(
    ("name", "near"),
    [("lenet", "lenet5"), ("LeNet5", "lenet5"), ("conv-net", "convnet"), ("lenet-1998", "lenet5-1998")],
)
def test_an_unknown_name_gets_the_nearest(name, near):
    with pytest.raises(ModelError, match=f'no model "{name}"; did you mean "{near}".*convnet, lenet5, lenet5-1998'):
        models.create(name)


def test_a_name_like_none_gets_the_list():
    with pytest.raises(ModelError, match=r'no model "zzz"; known: convnet, lenet5, lenet5-1998'):
        models.card("zzz")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_classes": True}, "num_classes is True"),
        ({"num_classes": 2.5}, "num_classes is 2.5"),
        ({"in_channels": -1}, "in_channels is -1"),
        ({"input_size": (28,)}, r"input_size is \(28,\)"),
        ({"input_size": 28}, "input_size is 28"),
        ({"input_size": (0, 28)}, r"input_size is \(0, 28\)"),
        ({"input_size": (3, 28)}, "at least 4 x 4"),
        ({"width": 2}, 'no option "width"'),
    ],
)
@pytest.mark.parametrize("name", ["lenet5", "convnet"])
def test_bad_arguments_get_a_sentence(name, arguments, words):
    with pytest.raises(ModelError, match=words):
        models.create(name, **arguments)


def test_bad_dropout_gets_a_sentence():
    with pytest.raises(ModelError, match=r"dropout is 1\.0"):
        models.create("convnet", dropout=1.0)
    with pytest.raises(ModelError, match="its options are dropout"):
        models.create("convnet", drop=0.1)


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_a_picture_of_another_shape_gets_a_sentence(name):
    net = models.create(name, input_size=(28, 28))
    for shape in [(1, 3, 28, 28), (1, 1, 60, 60), (28, 28)]:
        with pytest.raises(ModelError, match=r"this network was built for \[N, 1, 28, 28\]"):
            net(torch.zeros(shape))


def test_errors_that_are_not_about_the_shape_pass_through():
    net = models.create("lenet5")
    with pytest.raises(RuntimeError, match=r"(?i)dtype|type") as caught:
        net(torch.zeros(1, 1, 28, 28, dtype=torch.float64))
    assert not isinstance(caught.value, ModelError)


def test_networks_can_be_sliced():
    net = models.create("lenet5").eval()
    x = torch.randn(2, 1, 28, 28)
    assert net[:3](x).shape == (2, 6, 14, 14)
    assert torch.equal(torch.nn.Sequential(*net)(x), net(x))


def test_summary_of_every_model_is_json():
    for name in models.names():
        card = models.card(name)
        text = json.dumps(models.summary(models.create(name), card.input_shape).to_dict())
        assert json.loads(text)["totals"]["parameters"] == card.parameters


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's tracer does that
@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_networks_compile_and_export_without_a_break(name):
    torch.manual_seed(0)
    net = models.create(name, input_size=(28, 28)).eval()
    x = torch.randn(3, 1, 28, 28)
    assert torch.equal(torch.compile(net, fullgraph=True, backend="eager")(x), net(x))
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(x[:2]), net(x[:2]))
