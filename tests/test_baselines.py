"""The rivals against their papers' equations, on exact priors, and what sets them apart from Algorithm 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from text23d.contracts import Denoiser
from text23d.errors import UserError
from text23d.guide import Guide
from text23d.method.algorithm import Algorithm1
from text23d.method.baselines import ISM, SDI, SDS, VSD
from text23d.method.invert import FixedPoint, rising
from text23d.method.langevin import EulerMaruyama
from text23d.method.learner import NetworkLearner
from text23d.method.noise import gaussian
from text23d.method.ode import integrate
from text23d.method.proposal import Method, Proposal
from text23d.method.schedule import Constant, LogLinear, Random
from text23d.prior.analytic import Gaussian, GaussianMixture
from text23d.prior.wrappers.guidance import Guided
from text23d.rng import generator
from text23d.settings import build

WEIGHTS, MEANS, STDS = [0.5, 0.5], [[-1.0], [1.0]], [0.2, 0.2]
GUIDANCE = 4.0


def streams(i: int) -> Callable[[str], torch.Generator]:
    return lambda purpose: generator(0, 0, i, purpose)


class Said:
    """A conditioning of the mixture: weights of its components, [B, 2]; nothing said is both alike."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def unconditional(self) -> Said:
        return Said(torch.full_like(self.weights, 0.5))


class Told:
    """The mixture as a denoiser that is told by `Said`, and counts its evaluations."""

    def __init__(self) -> None:
        self.exact, self.calls = GaussianMixture(WEIGHTS, MEANS, STDS), 0

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        self.calls += 1
        return self.exact(x, sigma, c.weights)


def guided(count: int) -> tuple[Told, Guide]:
    """The mixture under guidance, told that the right-hand component is the likelier."""
    network, c = Told(), Said(torch.tensor([0.1, 0.9], dtype=torch.float64).expand(count, -1))
    return network, Guide(Guided(network, GUIDANCE), network, c, c)


def eps(x: Tensor, sigma: Tensor, likelier: float, guidance: float = 1.0) -> Tensor:
    """eps of the mixture, whose right-hand component has this weight, under guidance away from 1/2: a second
    implementation, by the derivative of its log density (one pixel)."""

    def score(weight: float) -> Tensor:
        at = x.detach().requires_grad_()
        total = 0.2**2 + sigma**2
        logs = [math.log(w) - (at - m).square() / (2 * total) for w, m in ((1 - weight, -1.0), (weight, 1.0))]
        (slope,) = torch.autograd.grad(torch.logaddexp(*logs).sum(), at)
        return slope

    told, untold = score(likelier), score(0.5)
    return -sigma * (untold + guidance * (told - untold))


X0 = torch.tensor([[-0.7], [0.1], [0.9]], dtype=torch.float64)
N = torch.tensor([[0.3], [-1.1], [0.6]], dtype=torch.float64)
SIGMA = torch.tensor(0.8, dtype=torch.float64)


def gradient(method: Method, guide: Guide, x0: Tensor = X0, n: Tensor = N) -> tuple[Tensor, Proposal]:
    proposal = method(guide, x0, SIGMA, n, streams(0))
    return x0 - proposal.target, proposal


def test_sds_is_its_equation() -> None:
    network, guide = guided(3)
    g, proposal = gradient(SDS(), guide)
    torch.testing.assert_close(g, SIGMA * (eps(X0 + SIGMA * N, SIGMA, 0.9, GUIDANCE) - N))
    assert proposal.nfe == network.calls == 2
    table = (X0 + SIGMA * N) - network.exact(X0 + SIGMA * N, SIGMA, guide.c.weights)
    torch.testing.assert_close(proposal.noise_ratio, table.abs().flatten() / SIGMA)
    assert proposal.residual.tolist() == [1, 1, 1]


def test_ism_is_its_equation() -> None:
    """With the inversion written out: three steps even in log sigma to sigma_s, one more to sigma_t."""
    network, guide = guided(3)
    g, proposal = gradient(ISM(steps=3, interval=0.75, sigma_min=0.05), guide)
    x, levels = X0, [0.05 * (0.6 / 0.05) ** (k / 3) for k in range(4)]
    for level, higher in pairwise(levels):
        x = x + (higher - level) * eps(x, torch.tensor(level, dtype=torch.float64), 0.5)
    eps_s = eps(x, SIGMA * 0.75, 0.5)
    x_t = x + 0.25 * SIGMA * eps_s
    torch.testing.assert_close(g, SIGMA * (eps(x_t, SIGMA, 0.9, GUIDANCE) - eps_s))
    assert proposal.nfe == network.calls == 4 + 2 and proposal.residual.isnan().all()


@pytest.mark.parametrize(("guidance", "cost"), [(1.0, 5), (0.0, 5), (-3.0, 10)])
def test_sdi_is_its_equation(guidance: float, cost: int) -> None:
    network, guide = guided(3)
    g, proposal = gradient(SDI(steps=5, guidance=guidance, sigma_min=0.05), guide)
    x, levels = X0, [0.05 * (0.8 / 0.05) ** (k / 5) for k in range(6)]
    for level, higher in pairwise(levels):
        x = x + (higher - level) * eps(x, torch.tensor(level, dtype=torch.float64), 0.9, guidance)
    noise = (x - X0) / SIGMA
    torch.testing.assert_close(g, SIGMA * (eps(x, SIGMA, 0.9, GUIDANCE) - noise))
    torch.testing.assert_close(proposal.noise, noise)
    assert proposal.nfe == network.calls == cost + 2


def test_a_prior_told_otherwise_is_asked_once() -> None:
    """Where D' is not part of D, the noise ratio would cost another evaluation: it is left unmeasured."""
    network, other = Told(), Told()
    c = Said(torch.tensor([[0.1, 0.9]] * 3, dtype=torch.float64))
    _, proposal = gradient(SDS(), Guide(network, other, c, c))
    assert (proposal.nfe, network.calls, other.calls) == (1, 1, 0) and proposal.noise_ratio.isnan().all()


def test_ddim_against_the_ode_of_a_gaussian() -> None:
    """x(sigma) = mu + (x0 - mu) sqrt((s^2 + sigma^2) / (s^2 + sigma_min^2)), approached at first order; levels [B]."""
    std, x0, high = 0.5, torch.tensor([[0.9], [-0.3]], dtype=torch.float64), torch.tensor([1.0, 3.0]).double()
    exact = 0.2 + (x0 - 0.2) * ((std**2 + high**2) / (std**2 + 0.02**2)).sqrt()[:, None]
    errors = [
        (integrate(Gaussian(0.2, std), x0, rising(0.02, high, steps)) - exact).abs().amax().item()
        for steps in (40, 80, 160)
    ]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert errors[-1] < 0.03 and all(0.9 < order < 1.1 for order in orders)


class ExactLearner:
    """The renderings' own distribution if it is Gaussian: D_phi from their mean and variance."""

    evaluations = 0

    def __call__(self, x0: Tensor, x: Tensor, sigma: Tensor, c: Any) -> Tensor:
        return Gaussian(x0.mean(), x0.std())(x, sigma)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """It keeps nothing."""


def follow(method: Method, guide: Guide, x0: Tensor, sigmas: list[float], rate: float) -> Tensor:
    """Gradient flow of pixels: x0 <- x0 - rate g, with fresh noise each time."""
    for i, sigma in enumerate(sigmas):
        level, n = torch.tensor(sigma, dtype=torch.float64), gaussian(x0, streams(i)("inversion"))
        x0 = x0 - rate * (x0 - method(guide, x0, level, n, streams(i)).target)
    return x0


def test_vsd_is_its_equation_and_at_rest_on_the_prior() -> None:
    """g = w (eps - eps_phi); particles that already are samples of the prior feel none on average, which for SDS is
    true of neither their mean square nor, by its shrinking, of their variance."""
    prior = Gaussian(0.3, 0.5)
    x0 = 0.3 + 0.5 * torch.randn(20_000, 1, generator=generator(0, 0, 0, "x0"), dtype=torch.float64)
    n = gaussian(x0, generator(0, 0, 0, "n"))
    for shift in (0.0, 0.4):
        particles, x = x0 + shift, x0 + shift + SIGMA * n
        g, _ = gradient(VSD(), Guide(prior, prior, learner=ExactLearner()), particles, n)
        own = Gaussian(particles.mean(), particles.std())
        torch.testing.assert_close(g, (x - prior(x, SIGMA)) - (x - own(x, SIGMA)))
        k = SIGMA**2 / (0.25 + SIGMA**2)  # D_phi - D = k (their mean - the prior's)
        assert abs(g.mean() - k * shift) < 0.01 and g.std() < 0.01
    g, _ = gradient(SDS(), Guide(prior, prior), x0, n)
    assert g.std() > 0.3 and (g * (x0 - 0.3)).mean() > 0.1


def test_what_sds_collapses_vsd_and_algorithm_1_keep() -> None:
    """2000 pixels after the same annealing. The mixture has two modes of deviation 0.2, each of half the weight.

    SDS ends near points: what is left of the deviation is the noise of its gradient, less with a smaller rate. VSD,
    which here sees a Gaussian, ends as samples of a Gaussian prior. Algorithm 1 samples the mixture.
    """
    sigmas = [LogLinear(3.0, 0.05)(i / 299) for i in range(300)]
    D, start = GaussianMixture(WEIGHTS, MEANS, STDS), torch.zeros(2000, 1, dtype=torch.float64)

    def modes(x: Tensor) -> tuple[float, float, float]:
        right = x[x > 0]
        return (x > 0).double().mean().item(), right.mean().item(), right.std().item()

    share, mean, std = modes(follow(SDS(), Guide(D, D), start, sigmas, 0.1))
    assert 0.4 < share < 0.6 and abs(mean - 1) < 0.02 and std < 0.05
    method = Algorithm1(FixedPoint(5), EulerMaruyama(0.3))
    share, mean, std = modes(follow(method, Guide(D, D), start, sigmas, 1.0))
    assert 0.45 < share < 0.55 and abs(mean - 1) < 0.03 and abs(std - 0.2) < 0.02

    prior = Gaussian(0.3, 0.5)
    begun = 0.1 * torch.randn(2000, 1, generator=generator(0, 0, 0, "begun"), dtype=torch.float64)
    vsd = follow(VSD(), Guide(prior, prior, learner=ExactLearner()), begun, [0.5] * 300, 0.3)
    sds = follow(SDS(), Guide(prior, prior), begun, [0.5] * 300, 0.05)
    assert abs(vsd.mean() - 0.3) < 0.02 and abs(vsd.std() - 0.5) < 0.02
    assert abs(sds.mean() - 0.3) < 0.02 and sds.std() < 0.1


class Affine(nn.Module):
    """D(x; sigma) = a + b x: all that a Gaussian's denoiser is at one sigma."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(()).double()), nn.Parameter(torch.zeros(()).double())

    def forward(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        return self.a + self.b * x


def test_the_learner_becomes_the_denoiser_of_what_it_is_shown() -> None:
    """And VSD with it comes to rest: its mean gradient on samples of the prior goes to nothing."""
    prior, learner = Gaussian(0.3, 0.5), NetworkLearner(Affine(), 0.02)
    guide = Guide(prior, prior, learner=learner)
    first = last = math.nan
    for i in range(600):
        x0 = 0.3 + 0.5 * torch.randn(500, 1, generator=generator(0, 0, i, "x0"), dtype=torch.float64)
        proposal = VSD()(guide, x0, SIGMA, gaussian(x0, streams(i)("n")), streams(i))
        last = (x0 - proposal.target).abs().mean().item()
        first = last if i == 0 else first
    assert first > 0.3 and last < 0.02 and proposal.nfe == 1 + 3
    state, k = learner.state(), 0.25 / (0.25 + SIGMA**2)
    torch.testing.assert_close(state["weights.b"], k, atol=0.02, rtol=0)
    torch.testing.assert_close(state["weights.a"], 0.3 * (1 - k), atol=0.02, rtol=0)


def test_vsd_resumed_equals_uninterrupted() -> None:
    prior: Denoiser = Gaussian(0.3, 0.5)

    def fresh() -> NetworkLearner:
        return NetworkLearner(Affine(), 0.02)

    def go(learner: NetworkLearner, x0: Tensor, first: int, last: int) -> Tensor:
        guide = Guide(prior, prior, learner=learner)
        for i in range(first, last):
            x0 = VSD()(guide, x0, SIGMA, gaussian(x0, streams(i)("n")), streams(i)).target
        return x0

    whole, begun, resumed = fresh(), fresh(), fresh()
    assert begun.state().keys() == {"weights.a", "weights.b"}, "no moments before the first iteration"
    resumed.load(begun.state())
    assert torch.equal(go(resumed, X0, 0, 3), go(fresh(), X0, 0, 3))
    halfway, resumed = go(begun, X0, 0, 3), fresh()
    resumed.load(begun.state())
    assert torch.equal(go(resumed, halfway, 3, 6), go(whole, X0, 0, 6))
    assert not torch.equal(go(fresh(), halfway, 3, 6), go(resumed, halfway, 3, 6))


def test_moments_lie_beside_their_weights() -> None:
    """A state that was read from a file, on another device or, here, of another type, becomes that of the network."""
    wide, narrow = NetworkLearner(Affine(), 0.02), NetworkLearner(Affine().float(), 0.02)
    wide(X0, X0 + SIGMA * N, SIGMA, None)
    narrow.load(wide.state())
    narrow(X0.float(), (X0 + SIGMA * N).float(), SIGMA.float(), None)
    wide(X0, X0 + SIGMA * N, SIGMA, None)
    for name, value in wide.state().items():
        torch.testing.assert_close(narrow.state()[name], value.float(), rtol=1e-5, atol=1e-6)
    assert all(value.dtype == torch.float32 for value in narrow.state().values())


def test_vsd_requires_a_learner() -> None:
    with pytest.raises(ValueError, match="requires a guide with a learner"):
        gradient(VSD(), Guide(Gaussian(0.3, 0.5), Gaussian(0.3, 0.5)))


def test_random_levels() -> None:
    """Even in their logarithms between bounds that move: quartiles at the quarters of the way."""
    schedule = Random(LogLinear(1.0, 0.1), Constant(10.0))
    for progress, low in ((0.0, 1.0), (1.0, 0.1)):
        drawn = schedule.draw(progress, 20_000, generator(0, 0, 0, "sigma")).double()
        assert drawn.min() >= low and drawn.max() <= 10
        part = (drawn / low).log() / math.log(10 / low)
        torch.testing.assert_close(
            part.quantile(torch.tensor([0.25, 0.5, 0.75]).double()),
            torch.tensor([0.25, 0.5, 0.75]).double(),
            atol=0.02,
            rtol=0,
        )
        assert schedule(progress) == pytest.approx(math.sqrt(low * 10))
    with pytest.raises(UserError, match="low <= high"):
        Random(Constant(2.0), Constant(1.0))


@pytest.mark.parametrize(
    ("rival", "name", "value", "expected"),
    [
        ("ISM", "steps", 0, "a whole number, 1 to 100000"),
        ("ISM", "interval", 1.0, "a number above 0 and below 1"),
        ("SDI", "sigma_min", 0.0, "a number above 0 and at most 100"),
        ("SDI", "steps", True, "a whole number, 1 to 100000"),
    ],
)
def test_settings_out_of_range(rival: str, name: str, value: object, expected: str) -> None:
    with pytest.raises(UserError, match=rf"^method\.strategy\.{name}=\S+: expected {expected}$"):
        build({"_target_": f"text23d.method.baselines.{rival}", name: value}, "method.strategy")
