"""From a prompt to a folder of results, end to end, in processes of their own: tiny runs of the real thing."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
import trimesh
import yaml
from tiny import optimise, takes_windows
from verbs import Verb

import text23d
from text23d.checkpoint import copied
from text23d.clock import Clock
from text23d.compose import compose
from text23d.contracts import unwatched
from text23d.engine.build import Parts, build_run
from text23d.engine.job import execute
from text23d.engine.loop import advance, iterate, set_rates
from text23d.engine.recipe import LangevinRecipe, Recipe
from text23d.engine.saved import read_nerf
from text23d.engine.state import RunState
from text23d.errors import Diverged, UserError
from text23d.files import load_tensors
from text23d.kernels import backend
from text23d.paths import conf_dir
from text23d.settings import build

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(text23d.__file__).parents[1]),
    "OMP_NUM_THREADS": "1",
}
TINY = (
    "device=cpu",
    "method.iterations=4",
    "method.views=2",
    "method.inner=2",
    "method.size.stages=[[0,16]]",
    "turntable.frames=4",
    "turntable.size=32",
    "mesh.resolution=32",
    "mesh.texture=128",
    "representation.steps=24",
    "stages=2",
)
FILES = [
    *("checkpoints", "config.yaml", "contact.png", "log.txt", "mesh.glb", "metrics.jsonl"),
    *("nerf.safetensors", "summary.json", "turntable.mp4"),
]
TIMED = {"seconds", "total"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "text23d.run", *arguments]


def done(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    finished = subprocess.run(command(*arguments), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished


def figures(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run, but for the time it took."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMED} for line in lines]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the words of a whole run, with harmless punctuation in its prompt."""
    root = tmp_path_factory.mktemp("single") / "anywhere"
    finished = done(root, "prompt=A red car!", *TINY)
    (folder,) = root.glob("outputs/*/*")
    return folder, finished.stderr


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders, by their end, of a sweep whose first job is the single run again."""
    root = tmp_path_factory.mktemp("sweep") / "anywhere"
    done(root, "-m", "prompt=A red car!,a blue mug", *TINY)
    return {folder.name: folder for folder in root.glob("outputs/*/*-sweep/*") if folder.is_dir()}


def test_every_result_is_there_and_nothing_else(single: tuple[Path, str]) -> None:
    folder, said = single
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert folder.name.endswith("-a-red-car")
    lines = said.splitlines()
    assert lines[0].startswith("text23d: 'A red car!' on cpu, kernels ") and str(folder) in lines[0]
    assert lines[-1].startswith("text23d: done in ") and str(folder) in lines[-1] and "faces" in lines[-1]
    assert "Traceback" not in said and "Warning" not in said


def test_metrics(single: tuple[Path, str]) -> None:
    found = figures(single[0])
    assert [line["iteration"] for line in found] == [1, 2, 3, 4]
    for line in found:
        assert all(math.isfinite(value) for value in line.values())
        assert line["loss"] > 0 and 0.5 < line["noise_ratio"] < 1.5 and 0 < line["residual"] <= 1
    assert [(line["size"], line["residual"] < 1) for line in found] == [(64, False)] * 2 + [(16, True)] * 2, (
        "a draft first"
    )
    sigma = recipe(*TINY).sigma
    windows = 1.2 * (0.4 / 1.2) ** ((2 / 3 - 0.4) / 0.6), 0.4  # by conf/stage/fine.yaml
    assert [line["sigma"] for line in found] == pytest.approx([sigma(0.0), sigma(1 / 3), *windows])


def test_pictures(single: tuple[Path, str]) -> None:
    folder = single[0]
    sheet = imageio.imread(folder / "contact.png")
    rows, columns = sheet.shape[0] // 128, sheet.shape[1] // 128
    assert (rows, columns) == (3, 8), "the start and two stages, from eight sides"
    frames = imageio.imread(folder / "turntable.mp4", plugin="FFMPEG")
    assert frames.shape == (4, 32, 32, 3)
    middle = frames[:, 12:20, 12:20].astype(float)
    assert (frames[:, 0, 0] > 230).all() and (middle.mean((1, 2, 3)) < 230).all(), "something on white"


def test_mesh(single: tuple[Path, str]) -> None:
    mesh = trimesh.load(single[0] / "mesh.glb", force="mesh")
    assert isinstance(mesh, trimesh.Trimesh)
    mesh.merge_vertices(merge_tex=True, merge_norm=True)  # along the seams of its texture
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    assert np.abs(mesh.bounds).max() <= 1.01 and mesh.extents.min() > 0.2
    assert len(mesh.faces) == json.loads((single[0] / "summary.json").read_text())["mesh"]["faces"]


def test_nerf(single: tuple[Path, str]) -> None:
    tensors, facts = load_tensors(single[0] / "nerf.safetensors", "nerf")
    representation = yaml.safe_load((single[0] / "config.yaml").read_text())["representation"]
    assert facts == {"prompt": "A red car!", "iteration": 4, "representation": representation}
    assert all(torch.isfinite(value.float()).all() for value in tensors.values())
    read = read_nerf(single[0])
    assert all(torch.equal(read.state_dict()[name], value) for name, value in tensors.items())
    assert not any(parameter.requires_grad for parameter in read.parameters())


def test_summary_and_configuration(single: tuple[Path, str]) -> None:
    folder = single[0]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["prompt"], summary["seed"], summary["device"]) == ("A red car!", 0, "cpu")
    assert summary["backend"] == backend.select("auto") and summary["iterations"] == 4
    assert summary["nfe"] == sum(line["nfe"] for line in figures(folder)) > 0
    seconds = summary["seconds"]
    assert {"start-up", "pictures", "optimise", "score", "turntable", "mesh", "total"} <= seconds.keys()
    parts = sum(value for name, value in seconds.items() if name != "total")
    assert all(value > 0 for value in seconds.values()) and 0.8 * seconds["total"] < parts < 1.01 * seconds["total"]
    loop = summary["loop"]
    assert list(loop) == ["prepare", "render", "sample", "update", "invert", "Langevin", "target", "other"]
    assert all(value > 0 for value in loop.values()) and sum(loop.values()) == pytest.approx(seconds["optimise"])
    assert 100 < summary["peak_memory_mb"] < 8000
    names = {"kind_probability", "kind_accuracy", "colour_probability", "colour_accuracy"}
    assert summary["score"].keys() == names and all(0 <= value <= 1 for value in summary["score"].values())
    assert summary["mesh"]["watertight"] and summary["mesh"]["upright"] and summary["mesh"]["faces"] > 100
    configuration = yaml.safe_load((folder / "config.yaml").read_text())
    assert configuration["prompt"] == "A red car!" and configuration["method"]["iterations"] == 4
    assert "${" not in (folder / "config.yaml").read_text(), "resolved"


def test_a_sweep_makes_a_folder_for_every_prompt(sweep: dict[str, Path]) -> None:
    assert sorted(sweep) == ["0-a-red-car", "1-a-blue-mug"]
    for folder in sweep.values():
        assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "output.txt"])
    summary = json.loads((sweep["1-a-blue-mug"] / "summary.json").read_text())
    assert summary["prompt"] == "a blue mug"
    seconds = summary["seconds"]
    assert sum(value for name, value in seconds.items() if name != "total") < 1.01 * seconds["total"]


def test_the_same_seed_gives_the_same_bytes(single: tuple[Path, str], sweep: dict[str, Path]) -> None:
    """In another process, another folder, and as a job of a sweep."""
    again = sweep["0-a-red-car"]
    assert figures(again) == figures(single[0])
    for name in ("nerf.safetensors", "mesh.glb", "contact.png", "config.yaml"):
        assert (again / name).read_bytes() == (single[0] / name).read_bytes(), name
    other = sweep["1-a-blue-mug"]
    assert (other / "nerf.safetensors").read_bytes() != (single[0] / "nerf.safetensors").read_bytes()


def interrupted(folder: Path, lines: int, *arguments: str) -> tuple[int, str]:
    """Start a run, send it Ctrl-C once its metrics have so many lines; its status and stderr."""
    process = Verb(*arguments, cwd=folder)
    try:
        metrics = folder / "result" / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= lines):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=200)[1]
    finally:
        process.kill()
    return process.wait(), said


def test_an_interrupted_run_keeps_what_it_has(single: tuple[Path, str], tmp_path: Path) -> None:
    """And, as this one computes with the torch twins: its first figures are those of the compiled kernels."""
    long = (*TINY, "method.iterations=10000", "backend=torch", "hydra.run.dir=result")
    status, said = interrupted(tmp_path, 3, "prompt=A red car!", *long)
    folder = tmp_path / "result"
    assert status == 130, said
    assert "kernels torch" in said.splitlines()[0] and "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("text23d: interrupted after ") and str(folder) in last and "of 10000 iterations" in last
    told = [line for line in said.splitlines() if not line.startswith("text23d: iteration ")]
    assert len(told) == 2 and all(line.startswith("text23d: ") for line in told)
    assert [path.name for path in tmp_path.iterdir()] == ["result"], "hydra.run.dir is where things go"
    kept = ["checkpoints", "config.yaml", "contact.png", "log.txt", "metrics.jsonl", "nerf.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == kept, "no temporary files"
    tensors, facts = load_tensors(folder / "nerf.safetensors", "nerf")
    iteration = facts["iteration"]
    assert iteration >= 2 and f"after {iteration} of" in last
    # the interruption may come between the line of an iteration and its end
    assert len(figures(folder)) in (iteration, iteration + 1)
    assert tensors.keys() == load_tensors(single[0] / "nerf.safetensors", "nerf")[0].keys()
    assert imageio.imread(folder / "contact.png").shape[1] > 8 * 128
    # the network computes in bfloat16, of three digits, which tells apart renders that differ in the last bit
    assert figures(folder)[0] == pytest.approx(figures(single[0])[0], rel=1e-2)


# In this process


CPU = torch.device("cpu")
WEIGHTS: list[str] = []
"""Settings of the priors below, that of windows first: they have learned nothing, unless a test asks for others."""


@pytest.fixture(scope="module", autouse=True)
def unlearned(tiny_prior: Path) -> None:
    fine = tiny_prior.with_name("prior_fine.safetensors")
    WEIGHTS[:] = [f"stage.weights={fine}", f"prior.weights={tiny_prior}", "prior.precision=float32"]


def settings(*overrides: str) -> dict[str, Any]:
    return compose("config", overrides)


def job(*overrides: str) -> tuple[RunState, Parts]:
    weights = WEIGHTS[0 if takes_windows(overrides) else 1 :]
    return build_run(settings("prompt=a red car", *TINY, *weights, *overrides), CPU)


def recipe(*overrides: str) -> Recipe:
    made: Recipe = build(settings(*overrides)["method"], "method")
    return made


def iterated(*overrides: str) -> dict[str, Any]:
    """The figures of the first iteration, which is none of a draft."""
    return iterate(*job("stage.draft=null" if takes_windows(overrides) else "stage=none", *overrides), unwatched)


def first_iteration(seed: int) -> tuple[RunState, dict[str, Any]]:
    state, parts = job(f"seed={seed}", "stage.draft=null")
    return state, iterate(state, parts, unwatched)


def test_another_seed_is_another_run() -> None:
    (a, same), (b, again), (c, other) = (first_iteration(seed) for seed in (0, 0, 1))
    assert same == again and all(torch.equal(p, q) for p, q in zip(a.phi.parameters(), b.phi.parameters(), strict=True))
    assert same["sigma"] == other["sigma"] and same["loss"] != other["loss"] and same["residual"] != other["residual"]
    assert not any(torch.equal(p, q) for p, q in zip(a.phi.parameters(), c.phi.parameters(), strict=True))


def test_learning_rates_fall_linearly() -> None:
    state, parts = job("++method.lr_end=0.2", "method.lr_mlp=0.01")
    assert state.optimizer is not None
    for progress, factor in ((0.0, 1.0), (0.5, 0.6), (1.0, 0.2)):
        set_rates(state, parts, progress)
        rates = {group["name"]: group["lr"] for group in state.optimizer.param_groups}
        assert rates == pytest.approx({"grid": factor * parts.recipe.lr_grid, "mlp": factor * 0.01})


def same(one: Any, other: Any) -> bool:
    """Whether two states hold the same, bit for bit; numbers that are none are alike."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and bool(torch.allclose(one, other, rtol=0, atol=0, equal_nan=True))
    return bool(one == other)


@pytest.mark.parametrize("chosen", [("views=bank", "views.count=2"), ("method=vsd",)], ids=" ".join)
def test_a_run_that_diverges_says_where_and_keeps_nothing_of_that_iteration(
    chosen: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights become NaN with the second iteration's first inner step: its second one meets them."""
    state, parts = job(*chosen, "method.ema=0.9", "method.inner=2")
    assert state.optimizer is not None
    steps, descend, weights = optimise(state, parts), state.optimizer.step, list(state.phi.parameters())
    next(steps)
    before = copied(state.state())

    def poisoned() -> None:
        descend()
        weights[-1].data.fill_(math.nan)

    with monkeypatch.context() as patched:
        patched.setattr(state.optimizer, "step", poisoned)
        with pytest.raises(Diverged, match="iteration 1 of 4 diverged: the update's loss is nan"):
            next(steps)
    assert same(before, {**state.state(), "clocks": before["clocks"]}), "but for the time that was spent"
    assert state.iteration == 1 and advance(state, parts)["iteration"] == 2
    assert all(bool(each.isfinite().all()) for each in weights)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("mesh.resolution=1", r"mesh\.resolution=1: expected a whole number, at least 2"),
        ("mesh.resolution=64.5", r"mesh\.resolution=64\.5: expected a whole number"),
        ("mesh.faces=3", r"mesh\.faces=3: .*at least 4"),
        ("mesh.threshold=0", r"^mesh\.threshold=0: expected a number above 0 and below 1e\+06 or null$"),
        ("mesh.threshold=low", r"mesh\.threshold=low"),
        ("turntable.frames=0", r"^turntable\.frames=0: expected a whole number, 1 to 10000$"),
        ("turntable.frames=true", r"^turntable\.frames=true: expected a whole number, 1 to 10000$"),
        ("turntable.size=40", r"turntable\.size=40: expected a number divisible by 16"),
        ("stages=0", "^stages=0: expected a whole number, at least 1$"),
    ],
)
def test_settings_of_the_results_are_checked_first(override: str, problem: str, tmp_path: Path) -> None:
    """Before any weights are read: those of the prior here are missing."""
    cfg = settings("prompt=a red car", "prior.weights=gone", override)
    with pytest.raises(UserError, match=problem) as raised:
        execute(cfg, tmp_path / "out")
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("method.iterations=4.5", r"^method\.iterations=4\.5: expected a whole number, 1 to 10000000$"),
        ("method.inner=0", r"^method\.inner=0: expected a whole number, 1 to 1000$"),
        ("method.churn=0", r"^method\.churn=0: expected a whole number, 1 to 10000$"),
        ("method.levels=[]", r"levels = \[\]: expected shares of sigma above 0"),
        ("method.levels=[1.0,0]", r"^method\.levels=\[1\.0, 0\]: expected a list of a number above 0 and at most 100$"),
        ("method.lr_grid=0", r"^method\.lr_grid=0: expected a number above 0 and at most 10000$"),
        ("method.lr_mlp=fast", r"^method\.lr_mlp=fast: expected a number above 0 and at most 10000$"),
        ("method.size.stages=[[0,8.5]]", r"^method\.size=8\.5: expected a whole number of pixels, 1 to 1024$"),
        ("method.size.stages=[[0.5,8]]", "expected rising numbers"),
        ("method.h.start=2.5", "stable for 0 < h < 2"),
    ],
)
def test_settings_of_the_method_are_told_as_themselves(override: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as raised:
        recipe(override)
    assert "\n" not in str(raised.value)


STRATEGIES = [
    f"method/{group}={path.stem}"
    for group in ("inversion", "langevin")
    for path in sorted((conf_dir() / "method" / group).glob("*.yaml"))
]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_that_can_be_asked_for_takes_an_iteration(strategy: str) -> None:
    figures = iterated("method.churn=2", strategy)
    inversion = {"naive": 1, "ode": 14, "backprop": 61, "anderson": 6}.get(strategy.split("=")[1], 3)
    assert figures["nfe"] == inversion + 4 and math.isfinite(figures["loss"])


@pytest.mark.parametrize("kind", sorted(path.stem for path in (conf_dir() / "method" / "sigma").glob("*.yaml")))
def test_every_schedule_of_levels(kind: str) -> None:
    """Of a random one and of a queue each view has its own level, and sigma is their mean; `together`, all have one."""
    state, parts = job(f"method/sigma={kind}")
    drawn = parts.recipe.sigma.draw(0.0, 2, torch.Generator().manual_seed(0))
    assert drawn.shape == ((2,) if kind in ("random", "queue") else ())
    assert math.isfinite(iterate(state, parts, unwatched)["loss"])
    if kind == "random":
        one = recipe(f"method/sigma={kind}", "method.sigma.together=true")
        assert one.sigma.draw(0.0, 2, torch.Generator()).shape == ()


def test_several_levels_in_one_iteration() -> None:
    figures = iterated("method.levels=[1.0,0.5]")
    assert figures["nfe"] == 2 * 5 and math.isfinite(figures["loss"])


def leak(made: Recipe, progress: float) -> float:
    assert isinstance(made, LangevinRecipe)
    one: Any = made.method_at(progress)
    return float(one.leak)


def test_the_leak_may_be_a_schedule() -> None:
    falling = recipe("method.leak={_target_: text23d.method.schedule.Linear, start: 0.5, end: 0.1}")
    assert [leak(falling, at) for at in (0.0, 0.5, 1.0)] == pytest.approx([0.5, 0.3, 0.1])
    assert leak(recipe("method.leak=0.2"), 1.0) == 0.2


def test_both_optimisers_descend_and_only_pixels_can_be_replaced() -> None:
    for kind, name in (("adam", "Adam"), ("sgd", "SGD")):
        state, parts = job(f"method/optimizer={kind}", "stage.draft=null")
        figures = iterate(state, parts, unwatched)
        assert type(state.optimizer).__name__ == name and figures["loss_after"] < figures["loss"]
    with pytest.raises(UserError, match="method/optimizer=replace: expected a representation that has pixels"):
        job("method/optimizer=replace")


def test_the_results_are_of_the_average() -> None:
    """With ema a run leaves the mean of the weights, while phi goes on with those that the optimiser ended with."""
    (plain, parts), (averaged, others) = (job(f"method.ema={decay}") for decay in (0, 0.99))
    passed: list[torch.Tensor] = []
    for _ in optimise(plain, parts):
        passed.append(next(iter(plain.phi.parameters())).detach().clone())
    list(optimise(averaged, others))
    assert plain.result() is plain.phi
    torch.testing.assert_close(next(averaged.result().parameters()), torch.stack(passed).mean(0))
    assert torch.equal(next(averaged.phi.parameters()), passed[-1])


def test_renorm_costs_an_evaluation_and_evens_the_noise() -> None:
    """On the prior that comes with the package: the noise of one that has learned nothing is even already."""
    naive = ("prior.weights=null", "stage=none", "method/inversion=naive")
    figures = [iterated(*naive, f"method.renorm={on}") for on in ("false", "true")]
    assert figures[1]["nfe"] == figures[0]["nfe"] + 1
    assert abs(figures[1]["noise_ratio"] - 1) < abs(figures[0]["noise_ratio"] - 1)


def test_the_clock_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 5.0, 7.5, 10.0, 11.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    clock = Clock()
    with clock.stage("a"):
        pass
    with pytest.raises(RuntimeError), clock.stage("b"):
        raise RuntimeError
    with clock.stage("a"):
        pass
    assert clock.seconds == {"a": 2.0, "b": 2.5}
