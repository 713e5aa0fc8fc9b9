"""Each Langevin scheme against its stationary variance on N(mu, s^2), and against the other schemes'."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.method.langevin import EulerMaruyama, Langevin, LeimkuhlerMatthews, LevelPreserving, Scheme
from text23d.prior.analytic import Gaussian

MEAN, STD, SIGMA, H, COUNT = 0.3, 0.5, 1.0, 0.5, 200_000
TOTAL, K = STD**2 + SIGMA**2, SIGMA**2 / (STD**2 + SIGMA**2)
VARIANCE = {
    "EulerMaruyama": TOTAL / (1 - H * K / 2),
    "LevelPreserving": TOTAL * (2 - H) / (2 - H * K),
    "LeimkuhlerMatthews": TOTAL,
}


def run(scheme: Langevin, denoiser: Gaussian, steps: int, start: Tensor) -> Tensor:
    stream, x, sigma = torch.Generator().manual_seed(1), start, torch.tensor(SIGMA, dtype=torch.float64)
    last = torch.randn(x.shape, generator=stream, dtype=x.dtype)
    for _ in range(steps):
        e = torch.randn(x.shape, generator=stream, dtype=x.dtype)
        x, last = scheme(x, denoiser(x, sigma), sigma, e, last), e
    return x


@pytest.mark.parametrize(
    "scheme", [EulerMaruyama(H), LevelPreserving(H), LeimkuhlerMatthews(H)], ids=lambda s: type(s).__name__
)
def test_stationary_variance(scheme: Langevin) -> None:
    start = torch.zeros(COUNT, 1, dtype=torch.float64)
    x = run(scheme, Gaussian(MEAN, STD), 40, start)  # (1 - h k)^40 < 1e-8: nothing is left of the start
    name = type(scheme).__name__
    error = (2 / COUNT) ** 0.5 * VARIANCE[name]  # one standard deviation of a Gaussian's sample variance

    assert abs(x.var().item() - VARIANCE[name]) < 4 * error
    for other in VARIANCE.keys() - {name}:
        assert abs(x.var().item() - VARIANCE[other]) > 10 * error
    assert abs(x.mean().item() - MEAN) < 4 * (VARIANCE[name] / COUNT) ** 0.5


def test_without_variance_in_the_data() -> None:
    """s = 0: one level-preserving step keeps the noise exactly, one Euler-Maruyama step inflates it by 1 + h^2."""
    start = MEAN + SIGMA * torch.randn(COUNT, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for scheme, factor in ((LevelPreserving(H), 1.0), (EulerMaruyama(H), 1 + H**2)):
        x = run(scheme, Gaussian(MEAN, 0.0), 1, start)
        assert abs(x.var().item() / start.var().item() - factor) < 4 * (2 / COUNT) ** 0.5 * factor


def test_each_sample_has_its_sigma() -> None:
    """Without signal, x' is the injected noise alone: sqrt(2h) sigma e and sqrt(2h - h^2) sigma e."""
    zero, e, sigma = torch.zeros(2, 4, 3, 3), torch.ones(2, 4, 3, 3), torch.tensor([0.5, 3.0])
    for scheme, scale in ((EulerMaruyama(0.32), 0.8), (LevelPreserving(0.4), 0.8)):
        x = scheme(zero, zero, sigma, e)
        torch.testing.assert_close(x[0], torch.full((4, 3, 3), 0.5 * scale))
        torch.testing.assert_close(x[1], torch.full((4, 3, 3), 3.0 * scale))


@pytest.mark.parametrize("scheme", [EulerMaruyama, LevelPreserving, LeimkuhlerMatthews])
@pytest.mark.parametrize("h", [0.0, -0.1, 2.0])
def test_unstable_steps_are_refused(scheme: type[Scheme], h: float) -> None:
    with pytest.raises(UserError, match=rf"h = {h}"):
        scheme(h)
