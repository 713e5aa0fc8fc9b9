"""Runs that lose their health: what is seen, where they go back to, and how they end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import verbs
from test_job import notes_of
from tiny import IMAGE, settings, tiny

from text23d.engine import health as healths
from text23d.engine import job, loop
from text23d.engine.events import Event, Iterated
from text23d.engine.health import Health, HealthSettings, Unsound, finite
from text23d.engine.loop import advance, streamed
from text23d.engine.saved import read_nerf
from text23d.engine.watchdog import STATUS
from text23d.errors import Diverged, UserError
from text23d.guide import Guide

OFTEN = "checkpoint.every=0"
SOUND = {"iteration": 1, "noise_ratio": 1.0}


# What is seen


@dataclass(frozen=True)
class Constant:
    value: float

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, c: Any = None) -> torch.Tensor:
        return torch.full_like(x, self.value)


class Identity:
    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, c: Any = None) -> torch.Tensor:
        return x


def test_a_denoiser_that_returns_nonsense_is_seen(tiny_prior: Path) -> None:
    for output, told in ((torch.nan, "not finite"), (torch.inf, "not finite"), (0.25, "0.25 everywhere")):
        guide = Guide(Constant(output), Identity(), watched=True)
        for denoise in (guide.D, guide.D_unconditional, guide.with_guidance(3.0), guide.with_guidance(1.0)):
            with pytest.raises(FloatingPointError, match=told):
                denoise(torch.zeros(1, 4, 2, 2), torch.tensor(1.0))
    x = torch.arange(4.0)[None]
    assert guide.D_aux(x, torch.tensor(1.0)) is x


def test_noise_ratios_out_of_range_are_seen_once_there_are_too_many() -> None:
    health = Health(HealthSettings(patience=3, noise_ratio=(0.7, 1.4)))
    for ratio in (0.6, 1.5, 1.0, 0.6, float("nan")):
        health.examine({"iteration": 1, "noise_ratio": ratio}, tabulated=True)
    with pytest.raises(Unsound, match=r"outside 0.7 to 1.4 for 3 iterations, and is 1.41"):
        health.examine({"iteration": 1, "noise_ratio": 1.41}, tabulated=True)
    for _ in range(9):
        health.examine({"iteration": 1, "noise_ratio": 9.0}, tabulated=False)


def test_an_empty_and_an_opaque_field_are_seen(tiny_prior: Path) -> None:
    state, parts = tiny(tiny_prior)
    phi: Any = state.phi
    advance(state, parts)
    assert parts.task.fault(phi) == ""
    phi.blob, weights = 0.0, phi.mlp[2]
    for density, told in ((-100.0, "empty"), (100.0, "opaque")):
        torch.nn.init.constant_(weights.bias, density)
        phi.occupancy.mask.copy_(phi.occupancy.inside)
        assert told in parts.task.fault(phi)


def test_a_picture_of_one_colour_is_seen(tiny_prior: Path) -> None:
    state, parts = tiny(tiny_prior, *IMAGE)
    torch.nn.init.constant_(next(iter(state.phi.parameters())), 0.3)
    assert parts.task.fault(state.phi) == "the picture is of one colour"
    advance(state, parts)
    assert parts.task.fault(state.phi) == ""


def test_finite_looks_into_everything() -> None:
    state = {"a": {"b": torch.ones(2)}, "count": torch.tensor([1]), "none": torch.zeros(0), "name": "x", "n": 1.0}
    assert finite(state)
    for value in (torch.nan, -torch.inf):
        assert not finite({**state, "c": {"d": torch.tensor([1.0, value])}})


# How it goes on


def test_failures_are_counted_until_the_run_gets_past_them() -> None:
    health = Health(HealthSettings(retries=2, patience=2))
    for _ in range(2):
        health.failed(Diverged("nan"), 10)
    health.examine({**SOUND, "iteration": 12}, True)
    assert health.failures == 2
    health.examine({**SOUND, "iteration": 13}, True)
    assert health.failures == 0
    for _ in range(2):
        health.failed(Diverged("nan"), 20)
    with pytest.raises(Diverged, match="nan"):
        health.failed(Diverged("nan"), 20)


def test_after_going_back_rates_are_lower_and_numbers_are_others(tiny_prior: Path) -> None:
    plain, parts = tiny(tiny_prior)
    other, _ = tiny(tiny_prior)
    other.rate, other.stream = 0.5, 1
    figures = [advance(state, parts) for state in (plain, other)]
    assert figures[0]["loss"] != figures[1]["loss"]
    rates = [[group["lr"] for group in state.optimizer.param_groups] for state in (plain, other)]  # type: ignore[union-attr]
    assert [2 * rate for rate in rates[1]] == rates[0]
    assert streamed("churn", 0) == "churn" != streamed("churn", 1) != streamed("churn", 2)


def breaking(monkeypatch: pytest.MonkeyPatch, harm: Callable[[Any], None], when: Callable[[int, int], bool]) -> None:
    """`harm` is done to the state before iterations: `when` is asked with the number of the call and the iteration."""
    iterate, calls = loop.iterate, []

    def iterated(state: Any, *given: Any) -> Any:
        calls.append(0)
        if when(len(calls), state.iteration):
            harm(state)
        return iterate(state, *given)

    monkeypatch.setattr(loop, "iterate", iterated)


def poison(state: Any) -> None:
    next(iter(state.phi.parameters())).data.flatten()[:50] = torch.nan


def poison_moments(state: Any) -> None:
    for moments in state.optimizer.state.values():
        moments["exp_avg"].fill_(torch.nan)


def empty(state: Any) -> None:
    state.phi.blob = -1000.0


@pytest.mark.parametrize("harm", [poison, poison_moments])
def test_weights_that_are_not_finite_once(
    harm: Callable[[Any], None], tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch, harm, lambda call, iteration: call == 3)
    events: list[Event] = []
    summary = job.execute(settings(tiny_prior, OFTEN), tmp_path, events.append)
    assert [each.iteration for each in events if isinstance(each, Iterated)] == [1, 2, 3, 4]
    assert len(summary["troubles"]) == 1 and "went back to iteration 2" in summary["troubles"][0]
    assert finite(read_nerf(tmp_path).state_dict())


def test_weights_that_are_never_finite(tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, poison, lambda call, iteration: iteration == 3)
    events: list[Event] = []
    with pytest.raises(
        Diverged, match=r"gave up after 3 retries .*; the best of it, after 3 iterations, is in"
    ) as raised:
        quick = ("turntable.frames=2", "turntable.size=16", "mesh.resolution=32", "mesh.faces=1000", "mesh.texture=64")
        job.execute(settings(tiny_prior, "outputs=all", *quick), tmp_path, events.append)
    assert "\n" not in str(raised.value) and finite(read_nerf(tmp_path).state_dict())
    assert (tmp_path / "turntable.mp4").exists() and not (tmp_path / "summary.json").exists()
    told = notes_of(events)
    assert len(told) == 3 and "times 0.125" in told[2]


def test_a_denoiser_that_returns_zeros_never_ends_in_done(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "text23d.prior.builtin.edm.Preconditioned.forward", lambda self, x, sigma, c=None: torch.zeros_like(x)
    )
    with pytest.raises(Diverged, match="the prior returned 0 everywhere"):
        job.execute(settings(tiny_prior), tmp_path)
    assert not (tmp_path / "summary.json").exists()


def test_a_field_that_became_empty_goes_back_to_a_checkpoint(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose examination found it sound; and further back, where it becomes empty again."""
    empties, seen = [3, 5], [0]
    fault = healths.Health.examine_field

    def examine(self: Health, task: Any, phi: Any) -> None:
        seen[0] += 1
        if seen[0] in empties:
            raise Unsound("the field is empty")
        fault(self, task, phi)

    monkeypatch.setattr(healths.Health, "examine_field", examine)
    summary = job.execute(settings(tiny_prior, OFTEN, "checkpoint.keep=4", "method.iterations=6"), tmp_path)
    places = [line.partition("went back to iteration ")[2][0] for line in summary["troubles"]]
    assert places == ["2", "1"] and summary["iterations"] == 6
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5, 6]


# What hangs

HANGS = """
import ctypes, os, signal, subprocess, sys, time
import test_health, text23d.engine.loop as loop
from text23d.engine import job, watchdog
from text23d.errors import UserError
import tiny, pathlib

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a script
watchdog.GRACE = 1.0
iterate = loop.iterate

def deadlock():
    mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex), lock(mutex)  # no signal ends this wait

def stopped():
    subprocess.Popen(["sh", "-c", f"sleep 3; kill -CONT {{os.getpid()}}"])
    os.kill(os.getpid(), signal.SIGSTOP)

def hanging(state, *given):
    if state.iteration == 2:
        {how}
    return iterate(state, *given)

loop.iterate = hanging
cfg = tiny.settings(pathlib.Path(sys.argv[1]), "checkpoint.every=0", "health.stall=2")
try:
    job.execute(cfg, sys.argv[2])
except UserError as error:
    sys.exit(f"told: {{error}}")
"""


@pytest.mark.parametrize(
    ("how", "status", "told"),
    [
        ("time.sleep(60)", 1, "told: iteration 3 hung for more than 2 s"),
        ("ctypes.CDLL(None).sleep(60)", 1, "told: iteration 3 hung for more than 2 s"),
        ("stopped()", 0, ""),
        ("deadlock()", STATUS, "text23d: an iteration hangs for 2 s and cannot be stopped: ended"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_run_that_hangs_is_ended(how: str, status: int, told: str, tiny_prior: Path, tmp_path: Path) -> None:
    script, start = HANGS.format(how=how), time.monotonic()
    (tmp_path / "hangs.py").write_text(script)
    given = (str(tiny_prior), str(tmp_path / "run"))
    done = verbs.done(*given, script=tmp_path / "hangs.py", cwd=tmp_path, timeout=60)
    assert (done.returncode, told in done.stderr) == (status, True), done.stderr
    assert time.monotonic() - start < 40 and "Traceback" not in done.stderr
    cfg = {**settings(tiny_prior, OFTEN), "resume": {"folder": "auto", "force": False}}
    assert job.execute(cfg, tmp_path / "run")["iterations"] == 4


def test_settings_out_of_range_are_refused(tiny_prior: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"health.stall"):
        job.execute({**settings(tiny_prior), "health": {"stall": -1.0}}, tmp_path)
