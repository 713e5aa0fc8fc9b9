"""Predictions of one and the same network, turned into D by their adapters, agree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from text23d.contracts import Denoiser
from text23d.prior.analytic import Gaussian
from text23d.prior.wrappers.flow import RectifiedFlow
from text23d.prior.wrappers.vp import VariancePreserving, sigma_table

ABAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
TABLE = sigma_table(ABAR)
STEPS = torch.tensor([3, 200, 500, 900])
SIGMA = TABLE[STEPS]


def network(x: Tensor) -> Tensor:
    """What it makes of the noisy picture in units of one deviation of the noise: nothing a perfect one would say."""
    return torch.sin(3 * x) + 0.2 * x


def unit(x: Tensor, sigma: Tensor) -> Tensor:
    return x / sigma.reshape(-1, 1, 1, 1)


def adapters() -> dict[str, Denoiser]:
    """The network as a prediction of n, of v, of x0 and of the flow; x_vp and x_t are what each of them is fed."""

    def predicting(kind: str) -> Any:
        def predict(x_vp: Tensor, t: Tensor, c: Any) -> Tensor:
            abar = ABAR[t.round().long()].reshape(-1, 1, 1, 1)
            n = network(x_vp / (1 - abar).sqrt())
            x0 = (x_vp - (1 - abar).sqrt() * n) / abar.sqrt()
            return {"epsilon": n, "v_prediction": abar.sqrt() * n - (1 - abar).sqrt() * x0, "sample": x0}[kind]

        return predict

    def flow(x_t: Tensor, t: Tensor, c: Any) -> Tensor:
        t = t.reshape(-1, 1, 1, 1)
        n = network(x_t / t)
        return n - (x_t - t * n) / (1 - t)

    kinds = ("epsilon", "v_prediction", "sample")
    return {kind: VariancePreserving(predicting(kind), TABLE, kind) for kind in kinds} | {"flow": RectifiedFlow(flow)}


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
def test_every_prediction_of_one_network_is_the_same_denoiser(kind: str) -> None:
    x = 3 * torch.randn(4, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = x - SIGMA.reshape(-1, 1, 1, 1) * network(unit(x, SIGMA))
    torch.testing.assert_close(adapters()[kind](x, SIGMA), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        adapters()[kind](x, SIGMA[1]), x - SIGMA[1] * network(x / SIGMA[1]), rtol=1e-9, atol=1e-9
    )


def test_a_perfect_flow_is_the_closed_form() -> None:
    """E[n - x0 | x_t] of N(mean, std^2), by the covariances of x_t = (1 - t) x0 + t n."""
    mean, std = 0.3, 0.7

    def perfect(x_t: Tensor, t: Tensor, c: Any) -> Tensor:
        t = t.reshape(-1, 1, 1, 1)
        gain = (t - (1 - t) * std**2) / ((1 - t) ** 2 * std**2 + t**2)
        return -mean + gain * (x_t - (1 - t) * mean)

    x = torch.randn(4, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(RectifiedFlow(perfect)(x, SIGMA), Gaussian(mean, std)(x, SIGMA))
