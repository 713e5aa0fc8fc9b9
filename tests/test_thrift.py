"""Runs that run out of memory: the same iteration in less of it, to the same gradient; and what is told at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_constraints import files
from tiny import IMAGE, MLP_IMAGE, optimise, tiny
from torch import Tensor

from text23d.cameras import orbit
from text23d.contracts import unwatched
from text23d.engine import thrift
from text23d.engine.build import Parts
from text23d.engine.loop import advance
from text23d.engine.state import RunState
from text23d.engine.thrift import Economy, economies
from text23d.errors import TooLarge
from text23d.method.learner import NetworkLearner
from text23d.prior.analytic import Gaussian
from text23d.prior.builtin.condition import Condition
from text23d.prior.wrappers.batches import Batched, BatchedCodec, in_batches
from text23d.prior.wrappers.codec import Latents
from text23d.representation.nerf import Nerf
from text23d.representation.volume import HIDDEN

ONE = ("method.views=5", "method.inner=1", "method.ema=0", "method.size.stages=[[0,16]]")
CASES: dict[str, tuple[str, ...]] = {
    "langevin": (),
    "anderson, a prior for each": ("method/inversion=anderson", "prior.auxiliary=none"),
    "backprop": ("method/inversion=backprop", "method.inversion.iterations=2"),
    "sds": ("method=sds",),
    "vsd": ("method=vsd",),
    "levels of their own": ("method/sigma=random",),
    "reference": ("constraint=reference", "constraint.picture={picture}", "constraint.size=16"),
    "signed distance": ("representation=nerf_sdf",),
    "image": (*IMAGE, "method.views=3"),
    "image, vsd": (*IMAGE, "method=vsd", "method.views=3"),
    "mlp image": (*MLP_IMAGE, "method.views=3"),
}


def in_double(state: RunState, parts: Parts) -> Parts:
    """The run in float64, to which gradients are compared."""
    state.phi.double()
    networks = [parts.guide.unguided, parts.guide.aux]
    if isinstance(state.learner, NetworkLearner):
        networks.append(state.learner.network)
    for network in networks:
        network.double()  # type: ignore[attr-defined]

    def conditions(views: Any) -> tuple[Any, Any]:
        c, c_aux = parts.guide.conditions(views)
        main = Condition(c.text, c.views.double())
        return main, main if c_aux is c else Condition(c_aux.text, c_aux.views.double())

    return replace(parts, guide=replace(parts.guide, conditions=conditions))


def gradients(state: RunState) -> list[Tensor]:
    """Those of the iteration's last step, of phi and of what the method learns."""
    learner = list(state.learner.weights.values()) if isinstance(state.learner, NetworkLearner) else []
    found = [each.grad for each in (*state.phi.parameters(), *learner) if each.grad is not None]
    assert found
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_level_has_the_same_gradient(
    case: str, tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thrift, "CHUNKS", (100, 37))
    overrides = [each.format(picture=files(tmp_path)[0]) for each in CASES[case]]
    found: list[tuple[list[float], list[Tensor]]] = []
    level = 0
    while True:
        state, parts = tiny(tiny_prior, *(["method.ema=0"] if "image" in case else ONE), *overrides)
        parts, state.thrift.level = in_double(state, parts), level
        figures = advance(state, state.thrift.apply(state, parts))
        found.append(([figures[name] for name in ("loss", "residual", "nfe")], gradients(state)))
        if level == len(thrift.economies_of(state, parts)):
            break
        level += 1
    assert level == {"image": 1, "image, vsd": 1, "mlp image": 3}.get(case, 4)
    (plain, expected), *sparing = found
    for told, grads in sparing:
        assert told == pytest.approx(plain, rel=1e-9, nan_ok=True)
        for one, other in zip(grads, expected, strict=True):
            assert (one - other).abs().max() <= 1e-9 * other.abs().max()


def test_the_ladder_spares_a_little_first() -> None:
    assert list(map(str, economies(4, chunked=True))) == [
        "rays in chunks of 4096, views one at a time",
        "rays in chunks of 1024, views one at a time",
        "rays in chunks of 256, views one at a time",
        "rays in chunks of 256, views one at a time, the prior in batches of 2",
        "rays in chunks of 256, views one at a time, the prior in batches of 1",
    ]
    assert economies(3, chunked=False) == [Economy(None, 1)]
    assert economies(1, chunked=False) == []


def failing(times: int, error: Callable[[], BaseException]) -> Callable[[str], Any]:
    """A stage that cannot have its memory, the first times that the update is entered."""
    left = times

    def stage(name: str) -> Any:
        nonlocal left
        if name == "update" and left:
            left -= 1
            raise error()
        return unwatched(name)

    return stage


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        lambda: MemoryError(),
        lambda: RuntimeError("could not create a primitive"),
    ],
)
def test_an_iteration_that_runs_out_of_memory_is_taken_again(
    error: Callable[[], BaseException], tiny_prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its own beginning, with the same draws; the level is kept, and saved with the rest of the state."""
    monkeypatch.setattr(thrift, "CHUNKS", (100, 37))
    told: list[str] = []
    state, parts = tiny(tiny_prior)
    figures = list(optimise(state, parts, failing(2, error), told.append))
    assert told == [
        "iteration 1 ran out of memory: rays in chunks of 100, views one at a time from now on",
        "iteration 1 ran out of memory: rays in chunks of 37, views one at a time from now on",
    ]
    assert state.thrift.level == 2 and state.phi.chunk == 37
    other, parts = tiny(tiny_prior)
    other.thrift.level = 2
    expected = list(optimise(other, parts))
    for name in ("loss", "sigma", "nfe", "residual"):
        assert [each[name] for each in figures] == [each[name] for each in expected]
    resumed, parts = tiny(tiny_prior)
    resumed.load(state.state())
    assert resumed.thrift.level == 2


def test_where_nothing_is_left_to_spare_one_line_says_what_to_do(tiny_prior: Path) -> None:
    state, parts = tiny(tiny_prior)
    told: list[str] = []
    next(optimise(state, parts, unwatched, told.append))
    before = {name: each.clone() for name, each in state.phi.state_dict().items()}
    broken = optimise(state, parts, failing(100, MemoryError), told.append)
    with pytest.raises(TooLarge, match=r"iteration 2 ran out of memory, with rays in chunks of 256.* lower"):
        next(broken)
    assert len(told) == len(economies(2, chunked=True)) and state.iteration == 1
    assert all(torch.equal(each, before[name]) for name, each in state.phi.state_dict().items())
    assert all(each.grad is None for each in state.phi.parameters())


def test_other_errors_are_not_taken_for_it(tiny_prior: Path) -> None:
    state, parts = tiny(tiny_prior)
    with pytest.raises(RuntimeError, match="shapes"):
        next(optimise(state, parts, failing(1, lambda: RuntimeError("shapes do not fit")), pytest.fail))


class Counting:
    """A Gaussian's denoiser, and a codec, that remember how many examples they were shown at once."""

    factor = 2

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.inner = Gaussian(0.3, 0.7)

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        self.seen.append(len(x))
        weight = 1.0 if c is None else c.reshape(-1, 1, 1)
        return weight * self.inner(x, sigma)

    def encode(self, rgb: Tensor) -> Tensor:
        self.seen.append(len(rgb))
        return rgb.square()

    def decode(self, code: Tensor) -> Tensor:
        return self.encode(code)


def test_a_batch_is_its_parts_and_so_is_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)
    c = torch.rand(5, generator=generator, dtype=torch.float64)
    for sigma in (torch.tensor(0.5), torch.rand(5, generator=generator, dtype=torch.float64) + 0.1):
        counting, whole = Counting(), x.clone().requires_grad_()
        parted = x.clone().requires_grad_()
        one, other = Counting()(whole, sigma, c), Batched(counting, 2)(parted, sigma, c)
        assert torch.equal(one, other) and counting.seen == [2, 2, 1]
        one.square().sum().backward()
        other.square().sum().backward()
        assert torch.equal(whole.grad, parted.grad)  # type: ignore[arg-type]
        assert sorted(counting.seen) == [1, 1, 2, 2, 2, 2]
    counting = Counting()
    assert torch.equal(BatchedCodec(counting, 3).encode(x), x.square()) and counting.seen == [3, 2]
    assert torch.equal(BatchedCodec(counting, 3).decode(x), x.square())


def test_what_was_shared_still_is(tiny_prior: Path) -> None:
    for overrides in ((), ("prior.guidance=1",), ("prior.auxiliary=none",)):
        parts = tiny(tiny_prior, *overrides)[1]
        views = parts.views.sample(4, torch.Generator().manual_seed(0))
        one, other = (guide.conditioned_on(views) for guide in (parts.guide, in_batches(parts.guide, 3)))
        assert one.shared == other.shared
        x, sigma = torch.randn(4, 4, 64, 64, generator=torch.Generator().manual_seed(1)), torch.tensor(1.0)
        for D in ("D", "D_aux", "D_unconditional"):
            assert torch.allclose(getattr(one, D)(x, sigma), getattr(other, D)(x, sigma), atol=1e-5)
        assert torch.allclose(one.D_given(x, sigma, one.D_aux(x, sigma)), other.D(x, sigma), atol=1e-5)


def test_latents_are_coded_in_batches(tiny_prior: Path) -> None:
    codec, parts = Counting(), tiny(tiny_prior)[1]
    guide = in_batches(replace(parts.guide, latents=Latents(codec)), 2)
    phi = Nerf(steps=8)
    with torch.no_grad():
        code = guide.wrap(phi).render(orbit(3), (4, 4))
    assert code.shape == (3, 3, 8, 8) and codec.seen == [2, 1]


def test_rays_of_any_chunk_are_the_same_picture() -> None:
    phi = Nerf(steps=16, generator=torch.Generator().manual_seed(0))
    jitter = [torch.Generator().manual_seed(1) for _ in range(2)]
    whole, seen = phi.render(orbit(2), (8, 8)), phi.render(orbit(2), (8, 8), jitter[0])
    phi.chunk = 25
    assert torch.allclose(whole, phi.render(orbit(2), (8, 8)), atol=1e-6)
    assert torch.allclose(seen, phi.render(orbit(2), (8, 8), jitter[1]), atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(whole, phi.render(orbit(2), (8, 8)), atol=HIDDEN)
