"""Denoisers in closed form, D(x; sigma) = E[x0 | x0 + sigma n = x]: exact, differentiable, in the precision of x.

They make the tests of the method exact, and stand in for a network in a demonstration.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def _spread(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma.reshape(-1, *[1] * (x.dim() - 1))


class Gaussian:
    """x0 ~ N(mean, std^2): D = mean + std^2 / (std^2 + sigma^2) (x - mean).

    mean and std broadcast against a sample [C, *S]: one number, or one for each element. Conditions on nothing.
    """

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean = torch.as_tensor(mean, dtype=torch.float64)
        self.std = torch.as_tensor(std, dtype=torch.float64)

    def __call__(self, x: Tensor, sigma: Tensor, c: None = None) -> Tensor:
        mean, variance = self.mean.to(x), self.std.to(x).square()
        return mean + variance / (variance + _spread(sigma, x).square()) * (x - mean)


class GaussianMixture:
    """x0 ~ sum_k weights_k N(means_k, stds_k^2 I): weights [K], means [K, C, *S], stds [K].

    Conditioning c [B, K], where given, replaces the weights sample by sample. Weights need not sum to 1.
    """

    def __init__(self, weights: Any, means: Any, stds: Any) -> None:
        self.weights = torch.as_tensor(weights, dtype=torch.float64)
        self.means = torch.as_tensor(means, dtype=torch.float64)
        self.stds = torch.as_tensor(stds, dtype=torch.float64)

    def __call__(self, x: Tensor, sigma: Tensor, c: Tensor | None = None) -> Tensor:
        means, variance = self.means.flatten(1).to(x), self.stds.to(x).square()
        weights = (self.weights if c is None else c).to(x)
        offset = x.flatten(1)[:, None] - means  # [B, K, d]
        total = variance + sigma.reshape(-1, 1).square()  # [B or 1, K]
        # log of weights_k N(x; means_k, stds_k^2 + sigma^2), but for a constant
        log_joint = weights.log() - offset.square().sum(-1) / (2 * total) - means.shape[1] / 2 * total.log()
        component = means + (variance / total)[..., None] * offset  # E[x0 | x, k]
        return (log_joint.softmax(-1)[..., None] * component).sum(1).reshape(x.shape)


class Empirical:
    """x0 is one of `points` [N, C, *S], each as likely: D = softmax(-|x - points|^2 / (2 sigma^2)) points.

    The score an over-trained network tends to. Conditions on nothing.
    """

    def __init__(self, points: Any) -> None:
        self.points = torch.as_tensor(points)

    def __call__(self, x: Tensor, sigma: Tensor, c: None = None) -> Tensor:
        points = self.points.flatten(1).to(x)
        # |x|^2 is common to all points and drops out of the softmax: a matrix product instead of a [B, N, d] table.
        closeness = x.flatten(1) @ points.T - points.square().sum(1) / 2
        return ((closeness / sigma.reshape(-1, 1).square()).softmax(-1) @ points).reshape(x.shape)
