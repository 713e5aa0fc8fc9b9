"""A run on its way: iterations, with metrics, pictures and checkpoints on disk, going back where its health is lost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from text23d import __version__, interruption
from text23d.engine.attention import heed
from text23d.engine.build import Parts
from text23d.engine.checkpoints import Checkpoints
from text23d.engine.events import Iterated, Looked, Noted, OnEvent
from text23d.engine.folder import METRICS, SHEET
from text23d.engine.following import dismiss, lead
from text23d.engine.health import Health, Unsound, finite
from text23d.engine.live import Live
from text23d.engine.loop import advance
from text23d.engine.results import save_phi, score
from text23d.engine.state import RunState
from text23d.engine.steering import Steering
from text23d.engine.thrift import thriftily
from text23d.engine.watchdog import Watchdog
from text23d.errors import Diverged
from text23d.files import JsonLines, write_bytes
from text23d.judge.network import Judge
from text23d.kernels.backend import describe


@dataclass
class Run:
    """cfg: its configuration; stages: rows of its contact sheet; started: the `time.perf_counter` from which its time
    counts, after `elapsed` seconds of earlier processes.

    safe: the state after the last whole iteration. troubles: what went wrong so far, a line each. probes: of the seeds
    among which this run's was chosen. live: what a viewer sees of it; None: there is none. steering: what a person has
    changed of it.
    """

    state: RunState
    parts: Parts
    judge: Judge
    folder: Path
    cfg: Mapping[str, Any]
    stages: int
    checkpoints: Checkpoints
    health: Health
    watchdog: Watchdog
    on_event: OnEvent
    started: float
    elapsed: float = 0.0

    def __post_init__(self) -> None:
        self.troubles: list[str] = []
        self.probes: list[Any] = []
        self.live: Live | None = None
        self.steering = Steering(self.folder)
        self._begun = self._furthest = self.safe = self.state.snapshot()
        self._went_to: int | None = None

    @property
    def seconds(self) -> float:
        """All that it took so far."""
        return self.elapsed + time.perf_counter() - self.started

    def load(self, contents: Mapping[str, Any]) -> None:
        """Go on from what `contents` gave, in a folder where metrics and pictures are as they were then. Raises
        UserError where it is of another run."""
        self.state.load(contents["state"])
        self.elapsed, self.troubles = contents["elapsed"], list(contents["troubles"])
        self.checkpoints.best = contents["best"]
        self.steering.load(contents.get("commands", []), self.trouble)
        write_bytes(self.folder / METRICS, contents["metrics"].numpy().tobytes())
        if self.state.sheet.stages:
            self.state.sheet.write(self.folder / SHEET, self.parts.task.columns)
        self._begun = self._furthest = self.safe = self.state.snapshot()
        made, now = contents["made"], self._made()
        for name in made:
            if made[name] != now.get(name):
                self.trouble(f"the run was begun with {name} {made[name]} and goes on with {now.get(name)}")

    def optimise(self, until: int | None = None) -> None:
        """The iterations that are left, up to number `until`; None: all. Raises Diverged where the run has lost its
        health too often, and whatever else ends it, such as Ctrl-C: `safe` is then the state after the last whole
        iteration."""
        state = self.state
        with JsonLines(self.folder / METRICS) as lines, self.watchdog.watching():
            lines.cut(lambda line: line["iteration"] <= state.iteration)  # to the checkpoint
            if not state.sheet.stages:
                self.look("start")
                self.safe = state.snapshot()
            if self.live is not None:
                self.live.begin(state.iteration)
                self.show()
            while state.iteration < (until or self.parts.recipe.iterations):
                interruption.check()
                heed(self)
                lead(state, self.parts.ranks, self.steering.told)
                try:
                    self.iterate(lines)
                except Diverged as error:
                    self.go_back(error, lines)
        dismiss(self.parts.ranks)

    def iterate(self, lines: JsonLines) -> None:
        """One iteration, its metrics, and what is due after it."""
        state, total = self.state, self.parts.recipe.iterations
        figures = thriftily(
            lambda parts: advance(state, parts, state.loop.stage, self.safe), state, self.parts, self.trouble
        )
        self.watchdog.alive()
        self.health.examine(figures, self.parts.guide.reference_rms is not None)
        lines.write(figures)
        looks = min(self.stages, total)
        if state.iteration in {round(total * part / looks) for part in range(1, looks + 1)}:
            self.look(f"iteration {state.iteration}, sigma {figures['sigma']:.2f}")
        self.safe = state.snapshot()
        self.on_event(Iterated(state.iteration, total, figures))
        if self.live is not None:
            self.show()
        if self.checkpoints.due or state.iteration == total:
            self.save()

    def look(self, label: str) -> None:
        with self.state.clock.stage("pictures"):
            self.state.sheet.add(label, self.parts.task.preview(self.state.result()))
            self.state.sheet.write(self.folder / SHEET, self.parts.task.columns)
        pictures = dict(zip(self.parts.task.columns, self.state.sheet.stages[-1][1], strict=True))
        self.on_event(Looked(self.state.iteration, label, pictures))

    def show(self) -> None:
        """To those who watch, where it is time."""
        assert self.live is not None, "somebody watches"
        parts, section = self.parts, self.cfg["representation"]
        with self.state.clock.stage("viewer"):
            self.live.show(self.state.iteration, self.state.result, parts.guide, parts.world, section)

    def save(self) -> None:
        """A checkpoint of the state as it is, if it is sound. Raises Diverged where it is not, and UserError where it
        cannot be written."""
        with self.state.clock.stage("checkpoints"):
            self.health.examine_field(self.parts.task, self.state.phi)
            if not finite(self.state.state()):
                raise Unsound("what the optimiser remembers is not finite")
            # The last is scored in any case, and nothing goes back to it.
            last = self.state.iteration == self.parts.recipe.iterations
            self.checkpoints.save(self.state.iteration, self.contents, unscored if last else self.merit)

    def contents(self) -> dict[str, Any]:
        metrics = self.folder / METRICS
        lines = np.frombuffer(metrics.read_bytes() if metrics.exists() else b"", np.uint8)
        told = {"made": self._made(), "elapsed": self.seconds, "troubles": self.troubles}
        if self.steering.records:
            told["commands"] = list(self.steering.records)
        return {"state": self.state.state(), "config": self.cfg, "metrics": torch.from_numpy(lines.copy()), **told}

    def _made(self) -> dict[str, str]:
        """With what: others may round otherwise."""
        return {"text23d": __version__, "torch": torch.__version__, "kernels": describe(self.parts.device.type)}

    def keep(self) -> None:
        """Save the state after the last whole iteration, and phi. Raises UserError where they cannot be written."""
        self.state.restore(self.safe)
        if finite(self.safe):
            save_phi(self.state, self.parts, self.cfg["representation"], self.folder)
            if self.state.iteration not in self.checkpoints.iterations():
                self.checkpoints.save(self.state.iteration, self.contents, unscored)

    def merit(self) -> float | None:
        """What checkpoints are compared by: the judge's mean probability of all that the prompt names."""
        found = score(self.state, self.parts, self.judge)
        named = [value for name, value in (found or {}).items() if name.endswith("probability")]
        merit = sum(named) / len(named) if named else None
        if self.live is not None and merit is not None:
            self.live.scores.append([self.state.iteration, merit])
        return merit

    def go_back(self, error: Diverged, lines: JsonLines) -> None:
        """To where the run was sound, with lower learning rates and another stream of random numbers. Raises `error`
        where it has failed too often."""
        state, health = self.state, self.health
        rate, stream = state.rate * health.settings.rate, state.stream + 1
        sudden = not isinstance(error, Unsound) and finite(self.safe)
        if sudden and self.safe["counts"]["iteration"] >= self._furthest["counts"]["iteration"]:
            self._furthest = self.safe
        health.failed(error, state.iteration)
        if health.failures > 1 and self._went_to is not None:  # what it went back to was not sound either
            self.restore_checkpoint(self._went_to - 1)
        elif sudden:
            state.restore(self.safe)
        else:
            self.restore_checkpoint()
        state.rate, state.stream, self._went_to = rate, stream, state.iteration
        self.safe = state.snapshot()
        self.checkpoints.remove_after(state.iteration)
        if self.live is not None:
            self.live.back_to(state.iteration)
        lines.cut(lambda line: line["iteration"] <= state.iteration)
        self.trouble(
            f"{error}; went back to iteration {state.iteration}, with learning rates times {rate:g} and other random "
            f"numbers (retry {health.failures} of {health.settings.retries})"
        )

    def restore_checkpoint(self, most: int | None = None) -> None:
        """The state of the newest whole checkpoint up to iteration `most`; without one, that of the beginning."""
        for contents in self.checkpoints.read(self.trouble, most):
            saved = contents["state"]
            return self.state.restore({**saved, "rows": len(saved["sheet"]["labels"])})
        return self.state.restore(self._begun)

    def restore_best(self) -> None:
        """The state that the judge liked best; where it liked none, the furthest that was sound."""
        if self.checkpoints.best:
            self.restore_checkpoint(int(self.checkpoints.best["iteration"]))
        else:
            self.state.restore(self._furthest)

    def trouble(self, text: str) -> None:
        """Something that a person should know, now and in summary.json."""
        self.troubles.append(text)
        self.on_event(Noted(text))


def unscored() -> None:
    """Of a checkpoint that is not compared with others."""
