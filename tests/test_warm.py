"""A bank of cameras, and the noise that each of them keeps from one visit to the next."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from text23d.engine.warm import WarmStarts, keys

from text23d.cameras import orbit
from text23d.cli import register_resolvers
from text23d.engine.build import Run, build
from text23d.engine.loop import iterate
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.paths import conf_dir
from text23d.representation.views import CameraBank


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
    with pytest.raises(UserError, match=r"views\.count=0: expected a whole number"):
        CameraBank(0, seed=0)


def test_noise_comes_back_to_its_camera(tmp_path: Path) -> None:
    warm, around = WarmStarts(), orbit(4)
    assert warm.recall(around, stream(0)) is None
    n = torch.randn(2, 3, 5, 5, generator=stream(1))
    warm.keep(around.rows(slice(0, 2)), n)
    n_new = torch.randn(1, 3, 5, 5, generator=stream(2))
    warm.keep(around.rows(slice(1, 2)), n_new)

    found = warm.recall(around.rows(torch.tensor([2, 1, 0])), stream(3))
    assert found is not None
    assert torch.equal(found[0], torch.randn(3, 3, 5, 5, generator=stream(3))[0]), "fresh where nobody was"
    assert torch.equal(found[1], n_new[0]) and torch.equal(found[2], n[0])

    save_tensors(tmp_path / "warm.safetensors", warm.state(), "warm")
    restored, nothing = WarmStarts(), WarmStarts()
    restored.load(load_tensors(tmp_path / "warm.safetensors", "warm")[0])
    again = restored.recall(around.rows(torch.tensor([2, 1, 0])), stream(3))
    assert again is not None and torch.equal(again, found)
    nothing.load(WarmStarts().state())
    assert nothing.recall(around, stream(0)) is None


def job(*overrides: str) -> Run:
    register_resolvers()
    small = (
        "prompt=a red car",
        "method.iterations=6",
        "method.views=2",
        "method.inner=1",
        "method.size.stages=[[0,16]]",
    )
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build(compose("config", [*small, *overrides]), torch.device("cpu"))


def test_a_run_goes_on_with_the_noise_it_ended_with() -> None:
    """Two cameras, both seen every time: the second inversion begins where the first iteration ended."""
    warm = job("views=bank", "views.count=2", "method/inversion=naive")
    iterate(warm)
    assert warm.warm is not None
    kept = {key: value.clone() for key, value in warm.warm.noise.items()}
    assert kept.keys() == set(keys(warm.cameras.sample(2, stream(0))))
    begun: list[torch.Tensor | None] = []
    recall = warm.warm.recall
    warm.warm.recall = lambda *given: begun.append(recall(*given)) or begun[-1]  # type: ignore[func-returns-value,method-assign]
    warm.iteration = 1
    iterate(warm)
    assert begun[0] is not None and {tuple(row.flatten()[:3].tolist()) for row in begun[0]} == {
        tuple(value.flatten()[:3].tolist()) for value in kept.values()
    }
    assert job().warm is None
