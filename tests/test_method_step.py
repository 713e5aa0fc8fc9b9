"""Algorithm 1 as a whole: what it computes, counts and reports, and that it samples the distribution it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from text23d.contracts import Denoiser, Shape
from text23d.errors import UserError
from text23d.guide import Guide
from text23d.method.algorithm import Algorithm1
from text23d.method.invert import Backprop, FixedPoint, Inverter, Naive
from text23d.method.langevin import EulerMaruyama, LevelPreserving
from text23d.method.levels import Levels
from text23d.method.noise import gaussian
from text23d.method.proposal import Proposal
from text23d.method.schedule import LogLinear
from text23d.method.step import step
from text23d.method.update import Update
from text23d.prior.analytic import Gaussian, GaussianMixture
from text23d.prior.wrappers.guidance import Guided
from text23d.rng import generator


class Pixels:
    """The representation whose rendering is itself, and the optimiser step that sets it to the target exactly."""

    def __init__(self, x: Tensor) -> None:
        self.x = torch.nn.Parameter(x.clone())

    def render(self, views: None, shape: Shape) -> Tensor:
        return self.x

    def parameters(self) -> list[torch.nn.Parameter]:
        return [self.x]

    def replaced(self) -> Update:
        """SGD on mean((x - x0_hat)^2) with a rate of half the number of elements lands on x0_hat."""
        return Update(torch.optim.SGD(self.parameters(), lr=self.x.numel() / 2), inner=1)


def run(phi: Pixels, D: Denoiser, sigmas: list[float], method: Algorithm1, first: int = 0) -> Proposal:
    update = phi.replaced()
    for i in range(first, len(sigmas)):
        sigma = torch.tensor(sigmas[i], dtype=torch.float64)
        report = step(phi, None, method, Guide(D, D), sigma, update, streams(i), (1,))
    return report.proposal


def streams(i: int, seed: int = 0) -> Callable[[str], torch.Generator]:
    return lambda purpose: generator(seed, 0, i, purpose)


class Network(torch.nn.Module):
    """A denoiser with weights of its own, that counts its evaluations and answers to a conditioning."""

    def __init__(self) -> None:
        super().__init__()
        self.shrink = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.calls = 0

    def forward(self, x: Tensor, sigma: Tensor, c: float | None = None) -> Tensor:
        self.calls += 1
        return self.shrink * x + (c or 0.0)


def test_one_iteration_is_the_written_one() -> None:
    """Algorithm 1 by hand, with D and D' different, each told its own conditioning, two churn steps and a leak."""
    D, D_aux, x0 = Gaussian(1.0, 0.4), Network(), torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(2, 4)
    sigma, h = torch.tensor(0.8, dtype=torch.float64), 0.3
    phi, method = Pixels(x0), Algorithm1(Naive(), EulerMaruyama(h), churn=2, leak=0.1)
    report = step(phi, None, method, Guide(D, D_aux, None, 0.25), sigma, phi.replaced(), streams(0), (1,))

    n = torch.randn(2, 4, generator=generator(0, 0, 0, "inversion"), dtype=torch.float64)
    noise = generator(0, 0, 0, "langevin")
    x = x0 + 0.8 * n
    before = 0.7 * x + 0.25
    x_next = x
    for _ in range(2):
        e = torch.randn(2, 4, generator=noise, dtype=torch.float64)
        x_next = x_next + h * (D(x_next, sigma) - x_next) + (2 * h) ** 0.5 * 0.8 * e
    x0_hat = x0 + 0.7 * x_next + 0.25 - before + 0.1 * (before - x0)

    torch.testing.assert_close(report.x0, x0)
    torch.testing.assert_close(report.proposal.target, x0_hat.detach())
    torch.testing.assert_close(phi.x.detach(), x0_hat.detach())
    assert report.losses == pytest.approx([(x0 - x0_hat).square().mean().item()])
    torch.testing.assert_close(report.proposal.noise_ratio, ((x - before).square().mean(1).sqrt() / 0.8).detach())


def test_several_levels_are_the_mean_of_each() -> None:
    """Targets averaged, evaluations added up, the first level as without the others; and noises of their own: at the
    same level twice two targets differ. Other factors than above 0 are refused."""
    D, x0 = Gaussian(1.0, 0.4), torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(2, 4)
    guide, sigma, one = Guide(D, D), torch.tensor([0.8, 0.4], dtype=torch.float64), Algorithm1(Naive())
    n = gaussian(x0, torch.Generator().manual_seed(1))
    alone = one(guide, x0, sigma, n, streams(0))

    def second(purpose: str) -> torch.Generator:
        return streams(0)(f"{purpose} at level 1")

    for factor in (0.5, 1.0):
        other = one(guide, x0, factor * sigma, gaussian(x0, second("inversion")), second)
        both = Levels(one, [1.0, factor])(guide, x0, sigma, n, streams(0))
        torch.testing.assert_close(both.target, (alone.target + other.target) / 2)
        torch.testing.assert_close(both.noise_ratio, (alone.noise_ratio + other.noise_ratio) / 2)
        assert both.nfe == alone.nfe + other.nfe and torch.equal(both.noise, alone.noise)
        assert not torch.allclose(alone.target, other.target)
    for wrong in ([], [1.0, 0.0]):
        with pytest.raises(UserError, match="levels = "):
            Levels(one, wrong)


@pytest.mark.parametrize("inversion", [Naive(), FixedPoint(2), Backprop(2)], ids=str)
def test_no_gradient_through_the_denoisers(inversion: Inverter) -> None:
    """phi receives the gradient of mean((phi - x0_hat)^2) with x0_hat held, and the networks none at all."""
    D, D_aux, phi = Network(), Network(), Pixels(torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(2, 4))
    update = Update(torch.optim.SGD(phi.parameters(), lr=0.0), inner=1)
    report = step(phi, None, Algorithm1(inversion), Guide(D, D_aux, 1.0), torch.tensor(2.0), update, streams(0), (1,))

    assert D.shrink.grad is None and D_aux.shrink.grad is None and not report.proposal.target.requires_grad
    assert phi.x.grad is not None
    torch.testing.assert_close(phi.x.grad, 2 * (phi.x.detach() - report.proposal.target) / 8)


@pytest.mark.parametrize(("inversion", "cost"), [(Naive(), 1), (FixedPoint(3), 4)], ids=str)
@pytest.mark.parametrize("churn", [1, 3])
def test_evaluations_are_counted_and_not_wasted(inversion: Inverter, cost: int, churn: int) -> None:
    method, sigma = Algorithm1(inversion, churn=churn), torch.tensor(1.0)

    one, other = Network(), Network()
    for D_aux, c, expected in [
        (one, None, cost + churn),  # D(x) is the inversion's D'(x)
        (one, 1.0, cost + churn + 1),
        (other, None, cost + churn + 1),
    ]:
        one.calls = other.calls = 0
        phi = Pixels(torch.zeros(3, 2, dtype=torch.float64))
        report = step(phi, None, method, Guide(one, D_aux, c), sigma, phi.replaced(), streams(0), (1,))
        assert report.proposal.nfe == expected == one.calls + other.calls


class Told:
    """A conditioning for `Guided`: one number, and nothing."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def unconditional(self) -> Told:
        return Told(torch.zeros_like(self.value))

    @staticmethod
    def cat(parts: list[Told]) -> Told:
        return Told(torch.cat([part.value for part in parts]))


@pytest.mark.parametrize("churn", [1, 3])
def test_a_guided_denoiser_costs_two_less_what_the_inversion_knew(churn: int) -> None:
    """And asks for its other half alone there, with the same result as if it had asked for both."""
    calls: list[int] = []

    def network(x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        calls.append(len(x))
        return 0.5 * x + c.value

    c, sigma, D = Told(torch.ones(2, 1)), torch.tensor(1.0), Guided(network, 3.0)
    reports = []
    for told in (c, Told(torch.ones(2, 1))):  # the same object, and one that nothing is known of
        phi = Pixels(torch.zeros(2, 1))
        method = Algorithm1(Naive(), churn=churn)
        reports.append(step(phi, None, method, Guide(D, network, told, c), sigma, phi.replaced(), streams(0), (1,)))
        assert sum(calls) == 2 * reports[-1].proposal.nfe
        calls.clear()
    assert [report.proposal.nfe for report in reports] == [2 * churn + 1, 2 * churn + 2]
    torch.testing.assert_close(reports[0].proposal.target, reports[1].proposal.target)


def test_noise_ratio_against_a_table() -> None:
    """On data drawn from the prior, with noise of the right level, rms(x - D(x)) is its expectation."""
    std, sigma = 0.5, torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)
    x0 = std * torch.randn(3, 40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    phi, D = Pixels(x0), Gaussian(0.0, std)
    method, update = Algorithm1(Naive()), phi.replaced()

    def table(s: float) -> float:
        return s**2 / (std**2 + s**2) ** 0.5

    report = step(phi, None, method, Guide(D, D, reference_rms=table), sigma, update, streams(0), (1,))
    torch.testing.assert_close(report.proposal.noise_ratio, torch.ones_like(sigma), rtol=0, atol=0.02)
    assert report.proposal.residual.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("scheme", [EulerMaruyama(0.5), LevelPreserving(0.5)], ids=lambda s: type(s).__name__)
def test_at_constant_sigma_the_rendering_is_the_chains_posterior_mean(scheme: EulerMaruyama | LevelPreserving) -> None:
    """With exact inversion x0 is the chain's D(x): the scheme's variance, times (s^2 / (s^2 + sigma^2))^2."""
    std, sigma, h, count = 0.5, 0.5, 0.5, 40_000
    phi = Pixels(torch.zeros(count, 1, dtype=torch.float64))
    run(phi, Gaussian(0.0, std), [sigma] * 50, Algorithm1(FixedPoint(25), scheme))
    total, k = std**2 + sigma**2, sigma**2 / (std**2 + sigma**2)
    chain = total / (1 - h * k / 2) if isinstance(scheme, EulerMaruyama) else total * (2 - h) / (2 - h * k)
    expected = (std**2 / total) ** 2 * chain
    assert abs(phi.x.var().item() - expected) < 4 * (2 / count) ** 0.5 * expected


WEIGHTS, MEANS, STDS = [0.3, 0.7], [[-1.0, 0.5], [1.0, -0.5]], [0.3, 0.5]


def test_the_whole_run_samples_the_mixture() -> None:
    """Identity rendering, sigma annealed from 3 to 0.05, from a flat start: 4000 runs end as 4000 samples.

    Weights within 0.03, means within 0.05, standard deviations within 5 %. Monte-Carlo error is about 0.007, 0.012 and
    1.5 %; the rest is the finite speed of annealing: x0 stays a posterior mean where sigma falls faster than it mixes.
    """
    phi, sigma = Pixels(torch.zeros(4000, 2, dtype=torch.float64)), LogLinear(3.0, 0.05)
    method = Algorithm1(FixedPoint(5), EulerMaruyama(0.3))
    run(phi, GaussianMixture(WEIGHTS, MEANS, STDS), [sigma(i / 299) for i in range(300)], method)

    x, means, stds = phi.x.detach(), torch.tensor(MEANS, dtype=torch.float64), torch.tensor(STDS, dtype=torch.float64)
    square = (x[:, None] - means).square().sum(-1)
    share = (torch.tensor(WEIGHTS).log() - square / (2 * stds**2) - 2 * stds.log()).softmax(-1)
    weight = share.sum(0)
    torch.testing.assert_close(weight / 4000, torch.tensor(WEIGHTS, dtype=torch.float64), rtol=0, atol=0.03)
    torch.testing.assert_close((share.T @ x) / weight[:, None], means, rtol=0, atol=0.05)
    torch.testing.assert_close(((share * square).sum(0) / weight / 2).sqrt(), stds, rtol=0.05, atol=0)


def test_a_resumed_run_equals_an_uninterrupted_one() -> None:
    D, sigmas, method = GaussianMixture(WEIGHTS, MEANS, STDS), [2.0, 1.5, 1.0, 0.7], Algorithm1(FixedPoint(2), churn=2)
    whole, other_seed = (Pixels(torch.zeros(5, 2, dtype=torch.float64)) for _ in range(2))
    run(whole, D, sigmas, method)
    first = Pixels(torch.zeros(5, 2, dtype=torch.float64))
    run(first, D, sigmas[:2], method)
    resumed = Pixels(first.x.detach())
    run(resumed, D, sigmas, method, first=2)
    assert torch.equal(resumed.x, whole.x)

    step(other_seed, None, method, Guide(D, D), torch.tensor(2.0), other_seed.replaced(), streams(0, seed=1), (1,))
    assert not torch.equal(other_seed.x, first.x)


def test_noise_to_begin_with_becomes_that_of_the_rendering() -> None:
    """It is kept from a last visit, and may have been read from a file: it goes where and is what the rendering is."""
    D, sigma, n = Gaussian(0.0, 1.0), torch.tensor(1.0), torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    found = []
    for noise in (n, n.double(), None):
        phi = Pixels(torch.ones(2, 3, dtype=torch.float64))
        step(phi, None, Algorithm1(), Guide(D, D), sigma, phi.replaced(), streams(0), (1,), noise=noise)
        found.append(phi.x.detach())
    assert found[0].dtype == torch.float64 and torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_sizes_of_target_and_update() -> None:
    """The rendering for the prior is made at `shape`, the one for the update at `update_shape`, by default the same."""

    seen: list[Shape] = []

    class Sized(Pixels):
        def render(self, views: None, shape: Shape) -> Tensor:
            seen.append(shape)
            return self.x.expand(1, 1, *shape)

    phi = Sized(torch.zeros(1, dtype=torch.float64))
    D, sigma = Gaussian(0.0, 1.0), torch.tensor(1.0)
    for update_shape in (None, (4, 2)):
        step(phi, None, Algorithm1(), Guide(D, D), sigma, phi.replaced(), streams(0), (8, 6), update_shape)
    assert seen == [(8, 6), (8, 6), (8, 6), (4, 2)]


def test_settings_out_of_range() -> None:
    with pytest.raises(UserError, match="churn = 0"):
        Algorithm1(churn=0)
