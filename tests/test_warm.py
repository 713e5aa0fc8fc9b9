"""A bank of cameras, and the noise that each of them keeps from one visit to the next."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from text23d import checkpoint
from text23d.cameras import orbit
from text23d.compose import compose
from text23d.engine.build import Parts, build_run
from text23d.engine.loop import advance
from text23d.engine.state import RunState
from text23d.errors import UserError
from text23d.method.warm import WarmStarts, keys
from text23d.representation.views import CameraBank
from text23d.rng import generators
from text23d.settings import build


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_bank_draws_different_cameras_of_one_set_evenly() -> None:
    bank, seen = CameraBank(10, seed=3), dict.fromkeys(keys(CameraBank(10, seed=3).all()), 0)
    for draw in range(400):
        found = keys(bank.sample(4, stream(draw)))
        assert len(set(found)) == 4
        for key in found:
            seen[key] += 1
    assert len(seen) == 10
    assert all(abs(count - 160) < 4 * (160 * 0.6) ** 0.5 for count in seen.values()), "4 of 10, 400 times"
    assert sorted(keys(bank.sample(10, stream(0)))) == sorted(seen)
    assert keys(CameraBank(10, seed=4).all()) != keys(bank.all())


def test_what_a_bank_cannot_do() -> None:
    with pytest.raises(UserError, match=r"method\.views=5 of views\.count=4 cameras"):
        CameraBank(4, seed=0).sample(5, stream(0))
    with pytest.raises(UserError, match=r"^views\.count=0: expected a whole number, 1 to 65536$"):
        build({"_target_": "text23d.representation.views.CameraBank", "count": 0, "seed": 0}, "views")


def test_noise_comes_back_to_its_camera(tmp_path: Path) -> None:
    warm, around = WarmStarts(), orbit(4)
    assert warm.recall(around, stream(0), (5, 5)) is None
    n = torch.randn(2, 3, 5, 5, generator=stream(1))
    warm.keep(around.rows(slice(0, 2)), n)
    n_new = torch.randn(1, 3, 5, 5, generator=stream(2))
    warm.keep(around.rows(slice(1, 2)), n_new)

    found = warm.recall(around.rows(torch.tensor([2, 1, 0])), stream(3), (5, 5))
    assert found is not None
    assert torch.equal(found[0], torch.randn(3, 3, 5, 5, generator=stream(3))[0]), "fresh where nobody was"
    assert torch.equal(found[1], n_new[0]) and torch.equal(found[2], n[0])
    own = warm.recall(around.rows(torch.tensor([1, 2])), generators(0, [6, 7], 5, "inversion"), (5, 5))
    assert own is not None and torch.equal(own[0], n_new[0])
    (fresh,) = generators(0, [7], 5, "inversion")
    assert torch.equal(own[1], torch.randn(3, 5, 5, generator=fresh)), "from the stream of its own view"

    checkpoint.save(tmp_path / "warm.safetensors", warm.state())
    restored, nothing = WarmStarts(), WarmStarts()
    restored.load(checkpoint.load(tmp_path / "warm.safetensors"))
    again = restored.recall(around.rows(torch.tensor([2, 1, 0])), stream(3), (5, 5))
    assert again is not None and torch.equal(again, found)
    nothing.load(WarmStarts().state())
    assert nothing.recall(around, stream(0), (5, 5)) is None


def job(*overrides: str) -> tuple[RunState, Parts]:
    small = (
        "prompt=a red car",
        "method.iterations=6",
        "method.views=2",
        "method.inner=1",
        "method.size.stages=[[0,16]]",
    )
    return build_run(compose("config", [*small, *overrides]), torch.device("cpu"))


def test_a_run_goes_on_with_the_noise_it_ended_with() -> None:
    """Two cameras, both seen every time: the second inversion begins where the first iteration ended."""
    state, parts = job("views=bank", "views.count=2", "method/inversion=naive")
    advance(state, parts)
    warm = state.warm
    assert isinstance(warm, WarmStarts)
    kept = {key: value.clone() for key, value in warm.noise.items()}
    assert kept.keys() == set(keys(parts.views.sample(2, stream(0))))
    begun: list[torch.Tensor | None] = []
    recall = warm.recall
    warm.recall = lambda *given: begun.append(recall(*given)) or begun[-1]  # type: ignore[func-returns-value,method-assign]
    advance(state, parts)
    assert begun[0] is not None and {tuple(row.flatten()[:3].tolist()) for row in begun[0]} == {
        tuple(value.flatten()[:3].tolist()) for value in kept.values()
    }
    assert job()[0].warm is None
