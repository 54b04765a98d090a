"""More of `wrong_layers`: normalisations, dropouts, pooling, shapes and losses with one thing wrong."""

from __future__ import annotations

import torch

from declarations.reference_layers import LAYERS
from switchgrad import reference as ref
from switchgrad.reference.normalisation.batch_norm import across, batch_statistics, per_channel
from wrong_layers import WRONG as WRONG
from wrong_layers import wrong


@wrong("BatchNorm of maps")
class WithoutTheMeanTerms(ref.BatchNorm):
    def backward(self, delta, kept):
        _, rate, gamma = kept
        return across(gamma * rate, delta) * delta, *super().backward(delta, kept)[1:]


@wrong("BatchNorm of units")
class VarianceAsAConstant(ref.BatchNorm):
    def backward(self, delta, kept):
        _, rate, gamma = kept
        m = delta.numel() / delta.shape[1]
        through = delta - across(per_channel(delta) / m, delta)
        return across(gamma * rate, delta) * through, *super().backward(delta, kept)[1:]


@wrong("BatchNorm of units", killed_by="values")
class DividesByOneLess(ref.BatchNorm):
    def forward(self, z, gamma, beta):
        mu, variance = batch_statistics(z)
        rate = 1 / torch.sqrt(variance * len(z) / (len(z) - 1) + self.epsilon)
        z_hat = (z - across(mu, z)) * across(rate, z)
        return across(gamma, z) * z_hat + across(beta, z), (z_hat, rate, gamma)


@wrong("BatchNormEvaluation")
class StatisticsMove(ref.BatchNormEvaluation):
    def backward(self, delta, kept):
        return *ref.BatchNorm().backward(delta, kept), None, None


@wrong("LocalResponseNorm 5", 5, 0.5, 0.75, 2.0)
class NeighboursForgotten(ref.LocalResponseNorm):
    def backward(self, delta, kept):
        return (delta * kept[1] ** -self.beta,)


@wrong("LocalResponseNorm 4", 4, 0.5, 0.75, 2.0)
class NeighboursTheWrongWayRound(ref.LocalResponseNorm):
    def backward(self, delta, kept):
        a, s, near = kept
        return super().backward(delta, (a, s, near.T))


@wrong("LocalContrastNorm", 5)
class MeanOfSigmaAsAConstant(ref.LocalContrastNorm):
    def backward(self, delta, kept):
        v, _, sigma, c, around = kept
        m = torch.maximum(c, sigma)
        dm = torch.where(sigma > c, -(delta * v).sum(1, keepdim=True) / m**2, 0.0)
        dv = delta / m + 2 * v * around.mean_back(dm / (2 * sigma))
        return (dv - around.mean_back(dv.sum(1, keepdim=True)),)


@wrong("UnitLength")
class KeepsTheLength(ref.UnitLength):
    def backward(self, delta, kept):
        return (delta / kept[1],)


@wrong("Dropout", 0.3)
class NotScaledBack(ref.Dropout):
    def backward(self, delta, kept):
        return delta * kept, None


@wrong("Dropout", 0.3)
class AnotherMask(ref.Dropout):
    def backward(self, delta, kept):
        return super().backward(delta, kept.flip(0, 1))


@wrong("SpatialDropout", 0.3)
class DroppedMapsLearn(ref.SpatialDropout):
    def backward(self, delta, kept):
        return delta / (1 - self.p), None


@wrong("DropConnect", 0.3)
class DroppedConnectionsLearn(ref.DropConnect):
    def backward(self, delta, kept):
        da, _, *rest = super().backward(delta, kept)
        return da, delta.T @ kept[0] / (1 - self.p), *rest


@wrong("MaxPool 2d overlapping", 3, 2)
class OneWindowOnly(ref.MaxPool):
    def backward(self, delta, kept):
        switches, size, win = kept
        dx = torch.zeros(*delta.shape[:2], *size, dtype=delta.dtype)
        flat = torch.ops.switchgrad.max_pool_indices(switches, list(size), win).flatten(2)
        return (dx.flatten(2).scatter(2, flat, delta.flatten(2)).reshape(dx.shape),)


@wrong("SwitchPool relu max", LAYERS["SwitchPool relu max"].layer.pool)
class DeadWindowsSend(ref.SwitchPool):
    def backward(self, delta, kept):
        return super().backward(delta, (kept[0].clamp(min=0), kept[1]))


@wrong("SwitchPool max", LAYERS["SwitchPool max"].layer.pool)
class LastWindowOnly(ref.SwitchPool):
    def backward(self, delta, kept):
        winners, size = kept
        dx = torch.zeros(*delta.shape[:2], *size, dtype=delta.dtype)
        return (dx.flatten(2).scatter(2, winners, delta.flatten(2)).reshape(dx.shape),)


@wrong("LpPool 3.5", 3.5, 3, 2)
class SignForgotten(ref.LpPool):
    def backward(self, delta, kept):
        return super().backward(delta, (abs(kept[0]), *kept[1:]))


@wrong("AveragePool 2d", 2)
class WholeGradientToEveryCell(ref.AveragePool):
    """The derivative of the sum."""

    def backward(self, delta, kept):
        return super().backward(4 * delta, kept)


@wrong("MaxPool 2d", 2)
class SharedAmongAll(ref.MaxPool):
    def backward(self, delta, kept):
        return (delta.repeat_interleave(2, 2).repeat_interleave(2, 3),)


@wrong("Flatten")
class ColumnsFirst(ref.Flatten):
    def backward(self, delta, kept):
        return (delta.reshape(kept[0], *reversed(kept[1:])).transpose(1, 3).contiguous(),)


@wrong("Add")
class HalfEach(ref.Add):
    def backward(self, delta, kept):
        return delta / 2, delta / 2


@wrong("Concat")
class PartsShifted(ref.Concat):
    def backward(self, delta, kept):
        return super().backward(delta.roll(1, 1), kept)


@wrong("SquaredError")
class TheOtherWayRound(ref.SquaredError):
    def backward(self, delta, kept):
        return super().backward(-delta, kept)


@wrong("SquaredError")
class HalfForgotten(ref.SquaredError):
    def backward(self, delta, kept):
        return super().backward(2 * delta, kept)


@wrong("CrossEntropy")
class RightClassForgotten(ref.CrossEntropy):
    def backward(self, delta, kept):
        log_p, onehot = kept
        return delta * torch.exp(log_p) / len(onehot), None


@wrong("CrossEntropy")
class SumOfTheExamples(ref.CrossEntropy):
    def backward(self, delta, kept):
        return super().backward(delta * len(kept[0]), kept)


@wrong("CrossEntropy")
class DeltaIgnored(ref.CrossEntropy):
    def backward(self, delta, kept):
        return super().backward(torch.ones_like(delta), kept)


@wrong("BinaryCrossEntropy")
class SlopeTwice(ref.BinaryCrossEntropy):
    def backward(self, delta, kept):
        a = torch.sigmoid(kept[0])
        return super().backward(delta, kept)[0] * a * (1 - a), None


@wrong("Hinge")
class RightScoreOnce(ref.Hinge):
    def backward(self, delta, kept):
        excess, right = kept
        wrong_ones = (excess > 0).to(excess.dtype)
        return delta * (wrong_ones - right * wrong_ones.amax(1, keepdim=True)) / len(right), None


@wrong("Triplet")
class EveryTripletLearns(ref.Triplet):
    def backward(self, delta, kept):
        return super().backward(delta, (*kept[:3], torch.ones_like(kept[3])))


@wrong("Triplet")
class AnchorStays(ref.Triplet):
    def backward(self, delta, kept):
        dA, dP, dN = super().backward(delta, kept)
        return torch.zeros_like(dA), dP, dN


@wrong("Triplet", 0.0, killed_by="values")
class MarginForgotten(ref.Triplet):
    pass


@wrong("Contrastive")
class EveryonePulled(ref.Contrastive):
    def backward(self, delta, kept):
        difference, d, gap, y = kept
        return super().backward(delta, (difference, d, -gap, y))
