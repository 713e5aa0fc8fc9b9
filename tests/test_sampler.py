"""Algorithm 1 on pictures that are their own renderings samples what it is given, in as few levels as a sampler."""

from __future__ import annotations

import torch

from text23d.method.algorithm import Algorithm1
from text23d.method.invert import FixedPoint
from text23d.method.langevin import EulerMaruyama
from text23d.prior.analytic import GaussianMixture
from text23d.prior.builtin.edm import sigma_steps
from text23d.studies.sampling.algorithm1 import algorithm1

WEIGHTS, MEANS, STDS, COUNT = [0.3, 0.7], [[[[-1.0]], [[0.5]]], [[[1.0]], [[-0.5]]]], [0.3, 0.5], 4000


def test_the_mixture_in_60_levels() -> None:
    """Weights within 0.02, means within 0.03 and deviations within 4 %: Monte-Carlo error is 0.007, 0.012 and 1.5 %.

    With small steps of Langevin's: the larger ones that serve pictures would leave these broad Gaussians too narrow.
    """
    D, levels = GaussianMixture(WEIGHTS, MEANS, STDS), sigma_steps(60).double()
    method = Algorithm1(FixedPoint(0), EulerMaruyama(0.1), leak=1.0)
    noise = torch.randn(COUNT, 2, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = algorithm1(D, D, levels[0] * noise, levels, None, 1, method).flatten(1)

    means, stds = torch.tensor(MEANS).double().flatten(1), torch.tensor(STDS).double()
    square = (x[:, None] - means).square().sum(-1)
    share = (torch.tensor(WEIGHTS).log() - square / (2 * stds**2) - 2 * stds.log()).softmax(-1)
    weight = share.sum(0)
    torch.testing.assert_close(weight / COUNT, torch.tensor(WEIGHTS).double(), rtol=0, atol=0.02)
    torch.testing.assert_close((share.T @ x) / weight[:, None], means, rtol=0, atol=0.03)
    torch.testing.assert_close(((share * square).sum(0) / weight / 2).sqrt(), stds, rtol=0.04, atol=0)
    assert not torch.equal(x, algorithm1(D, D, levels[0] * noise, levels, None, 2, method).flatten(1))
