"""A run is a function of its state, its seed and the iteration: saved, and loaded by another process, it ends with the
same bytes; an iteration that fails leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import IMAGE, MLP_IMAGE, optimise, settings, tiny
from torch import Tensor

from text23d import checkpoint
from text23d.engine.build import Parts, build_run
from text23d.engine.loop import advance
from text23d.engine.results import save_phi
from text23d.engine.state import RunState
from text23d.errors import Diverged, UserError
from text23d.files import load_tensors

KEPT, ALL = 2, 4
"""Iterations before the state is saved, and in all."""
EVEN = "stage.draft.guided=0"
"""Iterations of a draft cost the same at all noise levels."""
CASES: dict[str, tuple[str, ...]] = {
    "langevin": ("stage.draft=null", "method.ema=0.9"),
    "within a draft": ("stage.begin=0.9", "stage.draft.end=0.9", "stage.draft.round=3", "stage.draft.steps=2", EVEN),
    "sds": ("method=sds",),
    "vsd": ("method=vsd", "method.ema=0.5"),
    "ism": ("method=ism", "method.strategy.steps=1"),
    "sdi": ("method=sdi", "method.strategy.steps=2", "method.strategy.guidance=-1"),
    "bank": ("views=bank", "views.count=3"),
    "bank, of many cameras": ("views=bank", "views.count=9", "method.inversion.steps=0"),
    "bank of levels, vsd's sigma": ("views=bank", "views.count=2", "method.levels=[1,0.5]", "method/sigma=random"),
    "random": ("stage.draft=null", "method/sigma=random"),
    "random, together": ("stage.draft=null", "method/sigma=random", "method.sigma.together=true"),
    "levels": (EVEN, "method.levels=[1,0.5]"),
    "anderson": ("stage.draft=null", "method/inversion=anderson", "method.inversion.steps=3"),
    "backprop": (EVEN, "method/inversion=backprop", "method.inversion.iterations=2", "prior.auxiliary=none"),
    "ode": (
        EVEN,
        "method/inversion=ode",
        "method.inversion.steps=2",
        "method.inversion.solver=heun",
        "method.renorm=true",
    ),
    "chain": (EVEN, "method/langevin=leimkuhler_matthews", "method.churn=3", "method.lr_end=0.1"),
    "sgd": ("stage.draft=null", "method/optimizer=sgd", "method.ema=0.9"),
    "signed distance": ("stage.draft=null", "representation=nerf_sdf", "method.ema=0.9"),
    "image": (*IMAGE,),
    "image, replaced": (*IMAGE, "method/optimizer=replace"),
    "image, sgd": (*IMAGE, "method/optimizer=sgd", "method=vsd"),
    "mlp image": (*MLP_IMAGE,),
    "mlp image, of a bank": (*MLP_IMAGE, "method=sdi", "method.ema=0", "method.strategy.steps=1"),
}


def go(state: RunState, parts: Parts, iterations: int) -> None:
    """So many iterations, each looked at for the contact sheet as the job does at its stages."""
    for _ in range(iterations):
        advance(state, parts, state.loop.stage)
        state.sheet.add(f"iteration {state.iteration}", look(state, parts))


def look(state: RunState, parts: Parts) -> Tensor:
    """Small pictures of what results show."""
    return torch.cat([*parts.task.judged(state.result(), (8, 8))])


def resume(folder: Path) -> None:
    """What the fresh process does."""
    for name, cfg in json.loads((folder / "cases.json").read_text()).items():
        state, parts = build_run(cfg, torch.device("cpu"))
        state.load(checkpoint.load(folder / f"{name}.begun"))
        assert state.iteration == KEPT
        go(state, parts, ALL - KEPT)
        checkpoint.save(folder / f"{name}.resumed", state.state())
        save_phi(state, parts, {}, folder / name)


@pytest.fixture(scope="module")
def folder(tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case: its whole run, what it was after KEPT iterations, and what another process made of that."""
    where = tmp_path_factory.mktemp("states")
    torch.manual_seed(5)
    for name, overrides in CASES.items():
        state, parts = tiny(tiny_prior, *overrides)
        go(state, parts, KEPT)
        checkpoint.save(where / f"{name}.begun", state.state())
        go(state, parts, ALL - KEPT)
        checkpoint.save(where / f"{name}.whole", state.state())
        save_phi(state, parts, {}, where / f"{name}.phi")
    (where / "cases.json").write_text(json.dumps({name: settings(tiny_prior, *CASES[name]) for name in CASES}))
    subprocess.run([sys.executable, __file__, str(where)], check=True)
    return where


def differences(found: Any, expected: Any, where: str = "") -> list[str]:
    """The names of what is not the same, bit by bit."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), where
        return [name for key, each in expected.items() for name in differences(found[key], each, f"{where}/{key}")]
    if isinstance(expected, Tensor):
        same = (found.dtype, found.shape) == (expected.dtype, expected.shape) and torch.equal(found, expected)
        return [] if same else [where]
    return [] if found == expected else [where]


@pytest.mark.parametrize("name", CASES)
def test_a_run_saved_and_loaded_elsewhere_ends_with_the_same_bytes(name: str, folder: Path) -> None:
    begun, whole, resumed = (checkpoint.load(folder / f"{name}.{which}") for which in ("begun", "whole", "resumed"))
    for state in (begun, whole, resumed):  # the only things that may differ
        clocks = [state["clocks"].pop(clock) for clock in ("clock", "loop")]
        assert clocks[0]["optimise"] > 0 and clocks[1]["update"] > 0
    assert differences(resumed, whole) == []
    moved = differences(whole["phi"], begun["phi"])
    assert moved and any("weight" in each or "table" in each or "pixels" in each for each in moved)
    spent, first = whole["counts"].pop("evaluations"), begun["counts"]["evaluations"]
    assert 1.8 * first <= spent <= 2 * first, "D' of windows is D without guidance, and may be shared"
    assert whole["counts"] == {"iteration": ALL, "rate": 1.0, "stream": 0}
    assert whole["sheet"]["labels"] == [f"iteration {i + 1}" for i in range(ALL)]
    assert set(whole["sheet"]["pictures"]) == {str(i) for i in range(ALL)}


@pytest.mark.parametrize("name", CASES)
def test_its_results_are_the_same_bytes(name: str, folder: Path) -> None:
    (file,) = (folder / f"{name}.phi").iterdir()
    assert file.read_bytes() == (folder / name / file.name).read_bytes()
    assert all(each.isfinite().all() for each in load(file).values())


def load(file: Path) -> dict[str, Tensor]:
    return load_tensors(file, file.stem)[0]


def test_what_each_part_keeps(folder: Path) -> None:
    """The cases above would pass for parts that keep nothing where there should be something."""
    whole = {name: checkpoint.load(folder / f"{name}.whole") for name in CASES}
    banks = {name for name in CASES if name.startswith("bank")}
    assert {name for name, state in whole.items() if state["warm"]} == banks
    assert {name for name, state in whole.items() if state["learner"]} == {"vsd", "image, sgd"}
    averaged = {"langevin", "vsd", "sgd", "signed distance"} | {
        name for name in CASES if "image" in name and name[-1] != "k"
    }
    assert {name for name, state in whole.items() if state["average"]} == averaged
    assert {name for name, state in whole.items() if not state["optimizer"]} == {"image, replaced"}
    assert len(whole["bank"]["warm"]["views"]) == 3 and 4 <= len(whole["bank, of many cameras"]["warm"]["views"]) <= 8
    momentum = whole["sgd"]["optimizer"]
    assert set(momentum) == {f"{i}.momentum_buffer" for i in range(6)}
    adam = whole["langevin"]["optimizer"]
    assert float(adam["0.step"]) == 2 * ALL and int(whole["langevin"]["average"]["count"]) == ALL


# An iteration that fails


class Broken:
    """A denoiser that is right until its call number `when`, which returns NaN."""

    def __init__(self, denoiser: Any, when: int) -> None:
        self.denoiser, self.left = denoiser, when

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        self.left -= 1
        found: Tensor = self.denoiser(x, sigma, c)
        return found * torch.nan if self.left < 0 else found


def changes(state: RunState, parts: Parts, problem: type[BaseException] = Diverged) -> list[str]:
    """What an iteration that ends with `problem` changes of the state; times are no part of it."""
    before = checkpoint.copied(state.state())
    with pytest.raises(problem):
        advance(state, parts)
    found, expected = state.state(), before
    for each in (found, expected):
        del each["clocks"]
    return differences(found, expected)


@pytest.mark.parametrize("begun", [0, 2])
@pytest.mark.parametrize("name", ["bank", "image, replaced", "mlp image"])
def test_a_denoiser_that_breaks_leaves_nothing_behind(name: str, begun: int, tiny_prior: Path) -> None:
    state, parts = tiny(tiny_prior, *CASES[name])
    go(state, parts, begun)
    broken = Broken(parts.guide.aux, 0)
    assert changes(state, replace(parts, guide=replace(parts.guide, main=broken, aux=broken))) == []
    if state.average is not None and not begun:
        assert state.result() is state.phi


class Stumbling:
    """An update that fails at its second inner step, after the first has changed phi."""

    def __init__(self, problem: BaseException) -> None:
        self.problem, self.updates = problem, 0

    def __call__(self, *given: Any, **named: Any) -> None:
        self.updates += 1
        if self.updates == 2:
            raise self.problem


NUMBER = FloatingPointError("nan")


@pytest.mark.parametrize(
    ("name", "problem", "begun"),
    [
        *((name, NUMBER, 2) for name in ("langevin", "vsd", "bank", "sgd", "image", "mlp image")),
        *(("vsd", NUMBER, 0), ("langevin", KeyboardInterrupt(), 0), ("image", MemoryError(), 2)),
    ],
    ids=repr,
)
def test_an_iteration_that_ends_amid_its_update(
    name: str, problem: BaseException, begun: int, tiny_prior: Path
) -> None:
    """phi, and the learner that went before it, go back to where they were, and on as if nothing had been."""
    state, parts = tiny(tiny_prior, *CASES[name])
    go(state, parts, begun)
    assert state.optimizer is not None
    moved = state.snapshot()
    hook = state.optimizer.register_step_pre_hook(Stumbling(problem))
    assert changes(state, parts, Diverged if isinstance(problem, FloatingPointError) else type(problem)) == []
    assert differences(state.snapshot(), moved) == []
    hook.remove()
    go(state, parts, ALL - begun)
    whole, own = tiny(tiny_prior, *CASES[name])
    go(whole, own, ALL)
    assert differences(state.snapshot(), whole.snapshot()) == []
    assert (state.iteration, state.evaluations) == (whole.iteration, whole.evaluations)


def test_a_phi_that_is_no_longer_finite_is_not_kept(tiny_prior: Path) -> None:
    """Its gradient may be finite and the step of an optimiser not."""
    state, parts = tiny(tiny_prior)
    assert state.optimizer is not None

    def spoil(*given: Any) -> None:
        with torch.no_grad():
            next(state.phi.parameters()).fill_(torch.inf)

    state.optimizer.register_step_post_hook(spoil)
    assert changes(state, parts) == []


# The average


def test_interrupted_finished_and_resumed_runs_show_the_same_average(tiny_prior: Path, tmp_path: Path) -> None:
    overrides = CASES["langevin"]
    finished, parts = tiny(tiny_prior, *overrides, f"method.iterations={ALL}")
    for _ in optimise(finished, parts):
        if finished.iteration == KEPT:
            break
    interrupted, own = tiny(tiny_prior, *overrides)
    go(interrupted, own, KEPT)
    interrupted.optimizer.register_step_pre_hook(stop := Stumbling(KeyboardInterrupt()))  # type: ignore[union-attr]
    with pytest.raises(KeyboardInterrupt):
        advance(interrupted, own)
    assert stop.updates == 2
    checkpoint.save(tmp_path / "state", finished.state())
    resumed, last = tiny(tiny_prior, *overrides)
    resumed.load(checkpoint.load(tmp_path / "state"))

    shown = [look(state, parts) for state in (finished, interrupted, resumed)]
    assert all(torch.equal(each, shown[0]) for each in shown)
    assert not torch.equal(shown[0], torch.cat([*parts.task.judged(finished.phi, (8, 8))])), "an average is not phi"
    before = finished.snapshot()
    finished.result()
    assert differences(finished.snapshot(), before) == []
    for state, others in ((finished, parts), (resumed, last)):
        go(state, others, ALL - KEPT)
    assert torch.equal(look(finished, parts), look(resumed, last))


def test_a_view_of_the_average_is_its_mean_and_shares_all_else(tiny_prior: Path) -> None:
    state, parts = tiny(tiny_prior, "method.ema=0.5")
    history = []
    for _ in range(3):
        advance(state, parts)
        history.append([each.detach().clone() for each in state.phi.parameters()])
    mean = history[0]
    for k, phi in enumerate(history[1:], 1):
        kept = min(0.5, k / (k + 1))
        mean = [kept * m + (1 - kept) * p for m, p in zip(mean, phi, strict=True)]
    view = state.result()
    for found, expected in zip(view.parameters(), mean, strict=True):
        torch.testing.assert_close(found.detach(), expected)
        assert not found.requires_grad
    assert all(a is b for a, b in zip(view.buffers(), state.phi.buffers(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(state.phi.parameters(), history[-1], strict=True))


# States that do not fit


def test_a_state_of_other_parts_is_one_line(tiny_prior: Path) -> None:
    states = {name: tiny(tiny_prior, *CASES[name])[0] for name in ("langevin", "vsd", "bank", "image", "mlp image")}
    plain, _ = tiny(tiny_prior)
    for name, state in states.items():
        for other in states.values():
            if other is not state and state.phi is not other.phi and name in ("image", "mlp image", "vsd"):
                refused(state, other.state())
    whole = plain.state()
    wrong: Any
    for name in ("phi", "optimizer", "counts", "clocks", "sheet"):
        refused(plain, {key: value for key, value in whole.items() if key != name})
        for wrong in (5, [], "text", None):
            refused(plain, {**whole, name: wrong})
    refused(plain, {})


def refused(state: RunState, loaded: Mapping[str, Any]) -> None:
    before = checkpoint.copied(state.state())
    with pytest.raises(UserError, match="resume with its own configuration") as raised:
        state.load(loaded)
    assert "\n" not in str(raised.value)
    assert differences(state.state(), before) == [], "a state that does not fit changes nothing"


if __name__ == "__main__":
    resume(Path(sys.argv[1]))
