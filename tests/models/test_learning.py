"""The networks learn: gradients reach every weight, and a small real batch can be learnt by heart."""

import pytest
import torch
from sklearn.datasets import load_digits

from switchgrad import models


@pytest.fixture(autouse=True)
def one_thread():
    """Steps this small are slower on several threads, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits():
    """32 real handwritten digits of 8x8, brought to mean 0 and deviation 1, with their labels."""
    bunch = load_digits()
    images = torch.from_numpy(bunch.images[:32]).float()[:, None]
    return (images - images.mean()) / images.std(), torch.from_numpy(bunch.target[:32]).long()


@pytest.mark.parametrize(
    ("name", "options", "rate", "steps"),
    [("lenet5", {}, 0.05, 60), ("convnet", {"dropout": 0.25}, 0.05, 40), ("lenet5-1998", {}, 0.1, 80)],
)
def test_a_small_batch_is_learnt_by_heart(digits, name, options, rate, steps):
    images, labels = digits
    torch.manual_seed(0)
    net = models.create(name, input_size=(8, 8), **options)
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    first = torch.nn.functional.cross_entropy(net(images), labels).item()
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimiser.step()
    net.eval()
    last = torch.nn.functional.cross_entropy(net(images), labels).item()
    assert first > 1.5
    assert last < 0.05
    assert torch.equal(net(images).argmax(1), labels)


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 32)])
def test_gradients_reach_every_single_weight(name, size):
    # With positive weights and pictures every unit is live, so each weight that is connected at all gets a gradient.
    torch.manual_seed(0)
    net = models.create(name, input_size=size).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_().add_(1e-3)
    net(torch.rand(16, 1, *size, dtype=torch.float64)).sum().backward()
    silent = {key: int((parameter.grad <= 0).sum()) for key, parameter in net.named_parameters()}
    dropped = {key: count for key, count in silent.items() if count}
    if name == "convnet":  # dropout hides a value from one picture, not from sixteen
        assert dropped.pop("output.weight", 0) < 10
    assert dropped == {}
