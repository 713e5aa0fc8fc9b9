"""The light stage: nothing until it learns, nothing past its ceiling, and less error at low noise afterwards."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bumps import Bumps
from small_prior import SIDE, TINY, WORDS, batch, perturbed
from torch import Tensor

from text23d.compose import compose
from text23d.engine import prior_training
from text23d.engine.training import load, save
from text23d.errors import UserError
from text23d.files import load_tensors
from text23d.paths import weights_dir
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import Condition
from text23d.prior.builtin.layers import WEIGHTS
from text23d.prior.builtin.light import LightConfig, LightStage
from text23d.prior.builtin.training import TrainConfig, TrainState, learning
from text23d.prior.builtin.unet import UNet, UNetConfig
from text23d.prior.wrappers.lora import adapt
from text23d.rng import generator

CPU, LIGHT = torch.device("cpu"), LightConfig(width=8, blocks=1, ceiling=2.0)
WITH = replace(TINY, light=LIGHT)
SIGMAS = torch.tensor([0.05, 0.5, 1.9, 2.0])
TABLE = {name: [0.1, 1.0] for name in builtin.COLUMNS}


def beside(base: edm.Preconditioned, light: LightConfig = LIGHT) -> edm.Preconditioned:
    """`base` with a light stage as it is made."""
    network = UNet(replace(base.network.config, light=light))
    network.load_state_dict({**network.state_dict(), **base.network.state_dict()})
    return edm.Preconditioned(network).eval().requires_grad_(False)


def file(folder: Path, d: edm.Preconditioned) -> Path:
    builtin.save(folder / "prior.safetensors", builtin.BuiltinPrior(d, WORDS, TABLE, (SIDE, SIDE), {"images": 48}))
    return folder / "prior.safetensors"


def test_as_it_is_made_it_changes_nothing() -> None:
    (x, c), base = batch(0), perturbed()
    for sigma in (SIGMAS, SIGMAS[0], SIGMAS[3]):
        assert torch.equal(beside(base)(x, sigma, c), base(x, sigma, c))


def test_what_it_adds_is_what_is_written() -> None:
    """c_out (1 - (sigma / ceiling)^2) F_light(D, F; log sigma / 4) of each example, and nothing from the ceiling on."""
    (x, c), d = batch(1), perturbed(WITH)
    light = d.network.light
    assert light is not None
    base = edm.Preconditioned(UNet(TINY)).eval().requires_grad_(False)
    base.network.load_state_dict({n: v for n, v in d.network.state_dict().items() if not n.startswith("light.")})
    got, without = d(x, SIGMAS, c), base(x, SIGMAS, c)
    for row, s in enumerate(SIGMAS.tolist()):
        c_out, c_skip = s * 0.5 / math.sqrt(s * s + 0.25), 0.25 / (s * s + 0.25)
        f = (without[row] - c_skip * x[row]) / c_out
        added = light(without[row : row + 1], f[None], torch.tensor([math.log(s) / 4]))[0]
        expected = without[row] + c_out * (1 - (s / 2) ** 2) * added
        torch.testing.assert_close(got[row], expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(got[3], without[3]) and (got[0] - without[0]).abs().max() > 1e-3
    assert torch.equal(d(x, torch.tensor(7.0), c), base(x, torch.tensor(7.0), c))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_its_filters_see_nothing_of_a_constant(dimensions: int) -> None:
    """Each channel's own; away from the border, where there is nothing to compare with."""
    stage = LightStage(LIGHT, 3, dimensions).to(memory_format=WEIGHTS[dimensions])  # type: ignore[call-overload]
    d = torch.tensor([0.7, -1.0, 0.2]).reshape(1, -1, *[1] * dimensions).expand(1, -1, *[6] * dimensions)
    ripples = 0.1 * torch.randn(d.shape, generator=torch.Generator().manual_seed(0))
    inside: Any = (..., *[slice(1, -1)] * dimensions)
    assert stage.filtered(d)[inside].abs().max() < 1e-6
    torch.testing.assert_close(stage.filtered(d + ripples)[inside], stage.filtered(ripples)[inside])
    assert stage.filtered(ripples)[inside].abs().max() > 1e-2
    assert stage(d + ripples, ripples, torch.zeros(1)).shape == d.shape


def low_noise_error(d: edm.Preconditioned, examples: Tensor, c: Condition) -> float:
    noise = torch.randn(examples.shape, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        return (d(examples + 0.1 * noise, torch.tensor(0.1), c) - examples).square().mean().item()


def squares(seed: int) -> tuple[Tensor, Condition]:
    """Sixteen pictures of one even square each, and what the small prior's conditions say."""
    rng, (_, c) = torch.Generator().manual_seed(seed), batch(seed, 16)
    x = torch.full((16, 4, SIDE, SIDE), -0.5)
    for picture in x:
        top, left, side = (int(torch.randint(1, 8, (1,), generator=rng)) for _ in range(3))
        picture[:, top : top + side, left : left + side] = torch.rand(4, 1, 1, generator=rng)
    return x, c


def test_it_learns_what_is_left_at_low_noise_while_the_base_stays(tmp_path: Path) -> None:
    """On squares: the base has hardly been trained, and each is made anew; measured on others."""
    plain = TrainState.fresh(replace(TINY, patch=4), TrainConfig(images=10_000, batch=16, lr=2e-3, warmup=16), CPU)
    for step in range(40):
        plain.accumulate(squares(step))
        plain.advance(squares(step))
    start = file(tmp_path, plain.model)
    config = TrainConfig(images=10_000, batch=16, lr=4e-3, warmup=16)
    state = TrainState.fresh(replace(TINY, light=replace(LIGHT, width=16)), config, CPU)
    state.begin_from(start, WORDS.words)
    other, kept = squares(1000), {n: v.clone() for n, v in state.model.state_dict().items() if ".light." not in n}
    before = low_noise_error(state.average, *other)
    for step in range(60):
        state.accumulate(squares(100 + step))
        state.advance(squares(100 + step))
    for d in (state.model, state.average):
        assert low_noise_error(d, *other) < 0.7 * before
        assert all(torch.equal(d.state_dict()[name], each) for name, each in kept.items())


def test_only_the_stage_is_trained_and_a_broken_off_training_goes_on(tmp_path: Path) -> None:
    def begun() -> TrainState:
        state = TrainState.fresh(WITH, TrainConfig(images=48, batch=4, warmup=8), CPU)
        state.begin_from(start, WORDS.words)
        return state

    start = file(tmp_path, perturbed())
    once, first = begun(), begun()
    light = once.model.network.light
    assert light is not None and learning(once.model) is light
    groups = once.optimiser.param_groups
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in light.parameters()}
    for step in range(4):
        once.accumulate(batch(step))
        once.advance(batch(step))
    for step in range(2):
        first.accumulate(batch(step))
        first.advance(batch(step))
    save(tmp_path / "t.safetensors", first)
    second = TrainState.fresh(WITH, TrainConfig(images=48, batch=4, warmup=8), CPU)
    load(tmp_path / "t.safetensors", second)
    for step in range(2, 4):
        second.accumulate(batch(step))
        second.advance(batch(step))
    for name in once.modules:
        left, right = once.modules[name].state_dict(), second.modules[name].state_dict()
        assert all(torch.equal(left[k], right[k]) for k in left), name
    assert (second.seen, second.before) == (16, 48)


def test_its_levels_are_edms_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, draw = list[tuple[float, ...]](), edm.draw_sigma

    def told(n: int, rng: torch.Generator, *levels: float) -> Tensor:
        asked.append(levels)
        return draw(n, rng, *levels)

    monkeypatch.setattr(edm, "draw_sigma", told)
    for network in (TINY, WITH):
        TrainState.fresh(network, TrainConfig(batch=4), CPU).accumulate(batch(0))
    assert asked == [edm.LEVELS, (-1.2, 1.2)]


def test_it_comes_back_with_the_weights(tmp_path: Path) -> None:
    (x, c), d = batch(2), perturbed(WITH)
    path = file(tmp_path, d)
    back = builtin.load(path)
    assert back.denoiser.network.config == WITH
    rounded = {name: each.half().float() for name, each in d.network.state_dict().items()}
    d.network.load_state_dict(rounded)
    torch.testing.assert_close(back.denoiser(x, SIGMAS, c), d(x, SIGMAS, c), rtol=1e-4, atol=1e-5)
    builtin.save(tmp_path / "again.safetensors", back)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_weights_from_before_there_were_any_have_none() -> None:
    """The shipped small ones say nothing of it; D is Table 1 of EDM, bit for bit."""
    path = weights_dir() / "prior_small.safetensors"
    assert "light" not in load_tensors(path, "prior")[1]["config"]
    prior = builtin.load(path)
    assert prior.denoiser.network.config.light is prior.denoiser.network.light is None
    x, s = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.3])
    c, column = Condition(torch.zeros(2, 24, dtype=torch.int64), torch.zeros(2, 6)), s.reshape(2, 1, 1, 1)
    f = prior.denoiser.network((column**2 + 0.25).rsqrt() * x, s.log() / 4, c)
    expected = 0.25 / (column**2 + 0.25) * x + column * 0.5 * (column**2 + 0.25).rsqrt() * f
    assert torch.equal(prior.denoiser(x, s, c), expected)


def test_a_low_rank_adaptation_reaches_it() -> None:
    (x, c), d = batch(3), perturbed(WITH)
    adapted = adapt(d, 2, generator(0, 0, 0, "learner"))
    torch.testing.assert_close(adapted(x, SIGMAS, c), d(x, SIGMAS, c), rtol=1e-4, atol=1e-5)
    learned = {name: each for name, each in adapted.named_parameters() if each.requires_grad}
    reached = [name for name in learned if name.startswith("network.light.")]
    adapted(x, SIGMAS[0], c).square().sum().backward()
    assert any("details" in name for name in reached)
    assert all(learned[name].grad is not None for name in reached)


def test_the_derivative_by_x_is_the_difference_quotient() -> None:
    """What inversions by backpropagation take: it runs through D, F and the stage."""
    (x, c), d, sigma = batch(4), perturbed(WITH), torch.tensor(0.5)
    v, w = (torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) for i in (5, 6))
    (gradient,) = torch.autograd.grad((w * d(x.requires_grad_(), sigma, c)).sum(), x)
    with torch.no_grad():
        ahead, behind = (d(x + step * v, sigma, c).double() for step in (1e-2, -1e-2))
    assert (gradient * v).sum().item() == pytest.approx((w * (ahead - behind)).sum().item() / 2e-2, rel=2e-3)


@pytest.mark.parametrize(("base", "both"), [("full", "light"), ("clips", "clips_light")])
def test_the_configuration_has_it(base: str, both: str) -> None:
    """It is the network whose weights it is trained beside, and the stage that `LightConfig` describes."""
    without, light = (compose("train_prior", [f"network={name}"])["network"] for name in (base, both))
    assert light == {**without, "light": asdict(LightConfig())}


def test_mistakes(tmp_path: Path) -> None:
    start, config = file(tmp_path, perturbed()), TrainConfig(images=48, batch=4)
    for wanted, words in ((replace(WITH, widths=(16, 32)), WORDS.words), (WITH, ("a", "zebra", "car", "red", "tree"))):
        with pytest.raises(UserError, match="is of another network or other words"):
            TrainState.fresh(wanted, config, CPU).begin_from(start, words)
    data = prior_training.DataConfig(objects=4, views=1, validation=2)
    small = {**asdict(UNetConfig(1, patch=2, widths=(16,), blocks=1, attention=(False,), sketch=4)), "light": {}}
    network = {n: v for n, v in small.items() if n not in ("words", "channels", "dimensions", "features")}
    settings = prior_training.Settings(str(tmp_path / "t"), data, config, network)
    with pytest.raises(UserError, match=r"network\.light: .* add start="):
        prior_training.train_prior(Bumps(1), settings, CPU)
