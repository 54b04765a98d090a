"""The rules of backpropagation, each by itself, on the written-out layers."""

from __future__ import annotations

import itertools

import pytest
import torch

from switchgrad import ops
from switchgrad.reference import (
    SGD,
    Add,
    AveragePool,
    BatchNorm,
    BatchNormEvaluation,
    Convolution,
    ConvolutionIm2col,
    CrossEntropy,
    Flatten,
    Linear,
    LocallyConnected,
    MaxPool,
    Network,
    ReLU,
    Sigmoid,
    SquaredError,
    running_statistics,
)

ONE = torch.ones((), dtype=torch.float64)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slope(function, x, step=1e-6):
    """dJ/dx for each number of x, by central differences."""
    result = torch.zeros_like(x)
    for i in range(x.numel()):
        nudge = torch.zeros_like(x)
        nudge.view(-1)[i] = step
        result.view(-1)[i] = (function(x + nudge) - function(x - nudge)) / (2 * step)
    return result


def near(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def mlp(*sizes, unit=ReLU, seed=0):
    """Linear layers with a unit between each two."""
    rows = []
    for k, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        rows += [(unit(), ())] if k else []
        rows.append((Linear(), (normal(outputs, inputs, seed=seed + k), normal(outputs, seed=seed + 50 + k))))
    return Network(rows)


class TestChain:
    """Local gates and the chain rule."""

    def test_each_gate_computes_its_local_gradient_alone_and_the_chain_rule_multiplies_them(self):
        net = mlp(3, 4, 2, unit=Sigmoid)
        x = normal(1, 3, seed=9)
        whole = torch.stack([(net.forward(x), net.backward(way[None])[0])[1] for way in torch.eye(2).double()])
        product = torch.eye(2, dtype=torch.float64)
        net.forward(x)
        for layer, kept in zip(reversed(net.layers), reversed(net._kept), strict=True):
            local = torch.cat([layer.backward(row[None], kept)[0] for row in torch.eye(product.shape[1]).double()])
            product = product @ local
        near(whole, product)

    def test_two_layer_perceptron_as_the_text_has_it(self):
        # dJ/dW[k]=delta[k] a[k-1]^T; dJ/db[k]=delta[k]; delta[1]=(W[2]^T(yhat-y)) (.) 1{z[1]>0};
        # dJ/dW_i[2]=(yhat-y)a_i[1]
        net, loss = mlp(3, 4, 1), SquaredError()
        x, y = normal(1, 3, seed=9), numbers([0.5])
        yhat = net.forward(x)
        net.backward(loss.backward(ONE, loss.forward(yhat, y)[1])[0])
        (W1, b1), _, (W2, _) = net.parameters
        z1 = W1 @ x[0] + b1
        a1 = z1.clamp(min=0)
        delta2 = (yhat - y)[0]
        delta1 = (W2.T @ delta2) * (z1 > 0)
        (dW1, db1), _, (dW2, db2) = net.gradients
        near(dW2, torch.outer(delta2, a1))
        near(db2, delta2)
        near(dW2[0], delta2 * a1)
        near(dW1, torch.outer(delta1, x[0]))
        near(db1, delta1)
        assert (z1 <= 0).any(), "the mask must hide something"

    def test_dj_dz_is_dj_da_times_the_slope_of_sigma(self):
        z, dJ_da = normal(5), normal(5, seed=1)
        a, kept = Sigmoid().forward(z)
        near(Sigmoid().backward(dJ_da, kept)[0], dJ_da * a * (1 - a))
        near(slope(lambda z: Sigmoid().forward(z)[0] @ dJ_da, z), dJ_da * a * (1 - a), 1e-8)

    def test_bp1_to_bp4(self):
        """Nielsen's four equations on a network of three layers of sigmoid units."""
        net, loss = mlp(3, 4, 4, 2, unit=Sigmoid), SquaredError()
        last = Sigmoid()
        x, y = normal(1, 3, seed=9), numbers([0.2, 0.9])
        z3 = net.forward(x)
        a3, kept = last.forward(z3)
        cost, kept_cost = loss.forward(a3, y)
        (delta3,) = last.backward(loss.backward(ONE, kept_cost)[0], kept)
        net.backward(delta3)
        (W1, b1), _, (W2, b2), _, (W3, _) = net.parameters
        a1 = torch.sigmoid(W1 @ x[0] + b1)
        a2 = torch.sigmoid(W2 @ a1 + b2)
        bp1 = (a3 - y)[0] * (a3 * (1 - a3))[0]  # delta^L = grad_a C (.) sigma'(z^L)
        near(delta3[0], bp1)
        bp2 = (W3.T @ bp1) * a2 * (1 - a2)  # delta^l = ((w^(l+1))^T delta^(l+1)) (.) sigma'(z^l)
        bp2_first = (W2.T @ bp2) * a1 * (1 - a1)
        for index, (delta, into) in enumerate([(bp2_first, x[0]), (bp2, a1), (bp1, a2)]):
            dW, db = net.gradients[2 * index]
            near(db, delta)  # BP3: dC/db = delta
            near(dW, torch.outer(delta, into))  # BP4: dC/dw_jk = a_k delta_j
        assert cost > 0

    def test_update(self):
        # b := b - alpha dJ/db (likewise W)
        net, loss = mlp(3, 2), SquaredError()
        x, y = normal(4, 3, seed=9), normal(4, 2, seed=8)
        net.backward(loss.backward(ONE, loss.forward(net.forward(x), y)[1])[0])
        (W, b), (dW, db) = net.parameters[0], net.gradients[0]
        net.update(SGD(alpha=0.1))
        near(net.parameters[0][0], W - 0.1 * dW)
        near(net.parameters[0][1], b - 0.1 * db)

    def test_four_phases_lower_the_loss(self):
        net, loss = mlp(3, 5, 2), SquaredError()
        x, y = normal(4, 3, seed=9), normal(4, 2, seed=8)
        costs = []
        for _ in range(3):
            cost, kept = loss.forward(net.forward(x), y)  # forward pass, loss
            net.backward(loss.backward(ONE, kept)[0])  # backward pass
            net.update(SGD(0.05))  # weight update
            costs.append(cost.item())
        assert costs == sorted(costs, reverse=True)
        assert costs[2] < costs[0]

    def test_vanishing_gradient_and_the_shortcut_past_it(self):
        """Through n sigmoids at most 4^-n comes back; a residual add hands all of it down beside."""
        x = numbers([0.3])
        delta, kept = torch.ones_like(x), []
        a = x
        for _ in range(10):
            a, k = Sigmoid().forward(a)
            kept.append(k)
        for k in reversed(kept):
            (delta,) = Sigmoid().backward(delta, k)
        assert 0 < delta.item() <= 4.0**-10
        past, through = Add().backward(torch.ones_like(x), Add().forward(x, a)[1])
        assert past.item() == through.item() == 1

    def test_exclusive_or_is_learnt(self):
        """Backpropagation "effectively solved the exclusive-or problem", which no linear layer can."""
        x = numbers([0, 0], [0, 1], [1, 0], [1, 1])
        y = torch.tensor([0, 1, 1, 0])
        answers = {}
        for name, net in (("mlp", mlp(2, 8, 2)), ("linear", mlp(2, 2))):
            loss = CrossEntropy()
            for _ in range(300):
                cost, kept = loss.forward(net.forward(x), y)
                net.backward(loss.backward(ONE, kept)[0])
                net.update(SGD(0.3))
            answers[name] = cost.item(), net.forward(x).argmax(1).tolist()
        assert answers["mlp"][0] < 0.05
        assert answers["mlp"][1] == [0, 1, 1, 0]
        assert answers["linear"][0] > 0.69  # log 2: no better than a guess


def test_batch_norm_learns_its_statistics_for_evaluation():
    """The running averages are PyTorch's, and with the batch's own statistics evaluation is training."""
    module = torch.nn.BatchNorm1d(3, momentum=0.2).double()
    mu, variance = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for seed in range(3):
        z = 2 * normal(5, 3, 4, seed=seed) + 1
        module(z)
        mu, variance = running_statistics(mu, variance, z, momentum=0.2)
    near(mu, module.running_mean)
    near(variance, module.running_var)
    own_mu, own_variance = z.mean((0, 2)), z.var((0, 2), correction=0)
    gamma, beta = normal(3, seed=5), normal(3, seed=6)
    training, kept = BatchNorm().forward(z, gamma, beta)
    evaluation, kept_evaluation = BatchNormEvaluation().forward(z, gamma, beta, own_mu, own_variance)
    near(training, evaluation)
    delta = normal(*z.shape, seed=7)
    (dz, *rest), (dz_evaluation, *rest_evaluation) = (
        BatchNorm().backward(delta, kept),
        BatchNormEvaluation().backward(delta, kept_evaluation),
    )
    for ours, theirs in zip(rest, rest_evaluation[:2], strict=True):
        near(ours, theirs)
    assert (dz.sum((0, 2)).abs() < 1e-12).all(), "a shift of all of z changes nothing in training"
    assert (dz_evaluation.sum((0, 2)).abs() > 1e-3).all()


class TestMaxPool:
    """What comes back through max pooling."""

    def test_single_winner_gets_the_gradient_others_0(self):
        pool = MaxPool(2)
        x = numbers([3, 9, 1, 2], [0, 6, 8, 4])[None, None]
        _, kept = pool.forward(x)
        assert pool.backward(numbers([5, 7])[None, None], kept)[0][0, 0].tolist() == [[0, 5, 0, 0], [0, 0, 7, 0]]

    def test_backward_doubles_width_and_height(self):
        pool = MaxPool(2)
        y, kept = pool.forward(normal(2, 3, 6, 8))
        assert y.shape == (2, 3, 3, 4)
        (dx,) = pool.backward(y, kept)
        assert dx.shape == (2, 3, 6, 8)
        blocks = dx.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
        assert ((blocks != 0).sum(4) == 1).all()

    def test_switches_are_constants(self):
        """ "treated as constants, independent of x": with the switches held, y is linear in x, and a small change of x
        that no loser wins by changes nothing in the backward."""
        pool, x = MaxPool(3, stride=2), normal(1, 1, 7, 7)
        y, kept = pool.forward(x)
        delta = normal(*y.shape, seed=1)
        moved = x + 1e-9 * normal(*x.shape, seed=2)
        assert torch.equal(pool.backward(delta, pool.forward(moved)[1])[0], pool.backward(delta, kept)[0])
        matrix = torch.stack([pool.backward(way.reshape(y.shape), kept)[0].flatten() for way in torch.eye(y.numel())])
        assert torch.equal(matrix.double() @ x.flatten(), y.flatten())

    def test_ties_go_to_the_first_in_row_major_order(self):
        pool = MaxPool(2)
        x = numbers([5, 5, 1, 7], [5, 5, 7, 7])[None, None]
        _, kept = pool.forward(x)
        assert pool.backward(numbers([1, 1])[None, None], kept)[0][0, 0].tolist() == [[1, 0, 0, 1], [0, 0, 0, 0]]

    def test_gradients_of_overlapping_windows_add_up(self):
        pool = MaxPool(3, stride=2)
        x = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
        x[0, 0, 2, 2] = 9  # in all four windows
        _, kept = pool.forward(x)
        (dx,) = pool.backward(numbers([1, 20], [300, 4000])[None, None], kept)
        assert dx[0, 0, 2, 2] == 4321
        assert dx.count_nonzero() == 1

    def test_mask_view(self):
        """backward = product with the mask of selected elements; local gradient 1 at the maximum, 0 elsewhere."""
        pool, x = MaxPool(2), normal(2, 2, 4, 6)
        y, kept = pool.forward(x)
        mask = x == y.repeat_interleave(2, 2).repeat_interleave(2, 3)
        assert torch.equal(pool.backward(torch.ones_like(y), kept)[0], mask.double())
        delta = normal(*y.shape, seed=1)
        wide = delta.repeat_interleave(2, 2).repeat_interleave(2, 3)
        assert torch.equal(pool.backward(delta, kept)[0], wide * mask)

    @pytest.mark.parametrize("settings", [(2,), (3, 2), (3, 2, 1), (2, 1)], ids=str)
    def test_max_pooling_is_a_linear_layer_of_zeros_and_ones(self, settings):
        """FC equivalence: zeros and ones linking winners, fixed from the forward pass."""
        pool, x = MaxPool(*settings), normal(1, 1, 6, 6)
        y, kept = pool.forward(x)
        _, switches = ops.max_pool2d(x, *settings, return_switches=True)
        W = torch.zeros(y.numel(), x.numel(), dtype=torch.float64)
        W[torch.arange(y.numel()), switches.to_indices().flatten()] = 1
        assert set(W.flatten().tolist()) == {0.0, 1.0}
        z, kept_linear = Linear().forward(x.flatten(1), W, torch.zeros(len(W), dtype=torch.float64))
        assert torch.equal(z.reshape(y.shape), y)
        delta = normal(*y.shape, seed=1)
        da = Linear().backward(delta.flatten(1), kept_linear)[0]
        near(da.reshape(x.shape), pool.backward(delta, kept)[0], 1e-15)

    def test_of_a_sequence_only_one_frame_receives_a_gradient(self):
        frames = normal(1, 3, 50)
        y, kept = MaxPool(50).forward(frames)
        (dx,) = MaxPool(50).backward(torch.ones_like(y), kept)
        assert (dx.count_nonzero(2) == 1).all()
        assert torch.equal(dx.argmax(2), frames.argmax(2))

    def test_layers_without_parameters_still_propagate(self):
        """Pooling has 0 parameters, but what stands before it learns through it."""
        net = Network(
            [
                (Convolution(), (normal(2, 1, 3, 3), normal(2))),
                (ReLU(), ()),
                (MaxPool(2), ()),
                (Flatten(), ()),
            ]
        )
        y = net.forward(normal(2, 1, 6, 6, seed=1))
        dx = net.backward(torch.ones_like(y))
        assert [len(parameters) for parameters in net.parameters] == [2, 0, 0, 0]
        assert net.gradients[0][0].count_nonzero() == 18
        assert dx.count_nonzero() > 0


class TestAveragePool:
    """The same rules, with minor adjustments."""

    def test_every_cell_of_the_window_gets_the_same_share(self):
        pool = AveragePool(2)
        y, kept = pool.forward(numbers([3, 9, 1, 2], [0, 6, 8, 5])[None, None])
        assert y[0, 0].tolist() == [[4.5, 4]]
        assert pool.backward(numbers([4, 8])[None, None], kept)[0][0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]

    def test_shares_of_overlapping_windows_add_up(self):
        pool = AveragePool(3, stride=2)
        _, kept = pool.forward(torch.zeros(1, 1, 5, 5, dtype=torch.float64))
        (dx,) = pool.backward(numbers([9, 90], [900, 9000])[None, None], kept)
        assert dx[0, 0, 2, 2] == 1111
        assert dx[0, 0, 0].tolist() == [1, 1, 11, 10, 10]

    def test_it_is_a_convolution_with_1_over_r_for_each_channel(self):
        x, w = normal(2, 3, 4, 4), torch.full((3, 1, 2, 2), 0.25, dtype=torch.float64)
        conv = Convolution(stride=2, groups=3)
        (y, kept), (z, kept_conv) = AveragePool(2).forward(x), conv.forward(x, w, torch.zeros(3).double())
        near(y, z)
        near(AveragePool(2).backward(y, kept)[0], conv.backward(y, kept_conv)[0])


class TestSharing:
    """Weights that many places share, and places that share none."""

    @pytest.mark.parametrize("conv", [Convolution(), ConvolutionIm2col()], ids=["loops", "im2col"])
    def test_gradients_of_every_place_are_added(self, conv):
        """ "per-position gradients added across each depth slice; a single set updated"."""
        x, w, b = normal(2, 3, 5, 4), normal(4, 3, 3, 2), normal(4)
        y, kept = conv.forward(x, w, b)
        delta = normal(*y.shape, seed=1)
        _, dw, db = conv.backward(delta, kept)
        each_w, each_b = torch.zeros_like(w), torch.zeros_like(b)
        for place in range(y[0, 0].numel()):
            alone = torch.zeros_like(delta).flatten(2)
            alone[:, :, place] = delta.flatten(2)[:, :, place]
            _, dw_here, db_here = conv.backward(alone.reshape(delta.shape), kept)
            each_w, each_b = each_w + dw_here, each_b + db_here
        near(dw, each_w)
        near(db, each_b)

    def test_places_that_share_nothing_keep_their_own_gradient_and_their_sum_is_the_convolution_s(self):
        x, w, b = normal(2, 3, 5, 4), normal(4, 3, 3, 2), normal(4)
        y, kept = Convolution().forward(x, w, b)
        own = w.expand(*y.shape[2:], *w.shape)
        local, kept_local = LocallyConnected().forward(x, own, b[:, None, None].expand(y.shape[1:]))
        near(local, y)
        delta = normal(*y.shape, seed=1)
        dx, dw, db = Convolution().backward(delta, kept)
        dx_local, dw_local, db_local = LocallyConnected().backward(delta, kept_local)
        near(dx_local, dx)
        near(dw_local.sum((0, 1)), dw)
        near(db_local.sum((1, 2)), db)
        assert (dw_local.std((0, 1)) > 0).all()

    def test_loops_and_one_matrix_product_are_the_same(self):
        settings = {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2), "groups": 2}
        x, w, b = normal(2, 4, 6, 5), normal(6, 2, 3, 2), normal(6)
        answers = []
        for kind in (Convolution, ConvolutionIm2col):
            y, kept = kind(**settings).forward(x, w, b)
            answers.append((y, *kind(**settings).backward(y.sin(), kept)))
        for ours, theirs in zip(*answers, strict=True):
            near(ours, theirs)

    def test_gradient_of_the_input_is_a_full_convolution_with_the_turned_kernel(self):
        x, w, b = normal(1, 1, 4, 4), normal(1, 1, 3, 3), normal(1)
        y, kept = Convolution().forward(x, w, b)
        delta = normal(*y.shape, seed=1)
        full, _ = Convolution(padding=2).forward(delta, w.flip(2, 3), torch.zeros_like(b))
        near(Convolution().backward(delta, kept)[0], full)

    def test_gradient_of_the_filter_is_the_input_seen_through_delta(self):
        """delta dot with the input: with one channel, a convolution of x with delta as its kernel."""
        x, w, b = normal(1, 1, 5, 5), normal(1, 1, 3, 3), normal(1)
        y, kept = Convolution().forward(x, w, b)
        delta = normal(*y.shape, seed=1)
        near(Convolution().backward(delta, kept)[1], Convolution().forward(x, delta, torch.zeros_like(b))[0])


def test_relu_passes_only_where_the_input_was_positive():
    z = numbers(-1, -0.0, 0.0, 1e-300, 2)
    _, kept = ReLU().forward(z)
    assert ReLU().backward(torch.full_like(z, 5), kept)[0].tolist() == [0, 0, 0, 5, 5]
