"""A run's folder, as the viewer reads it: snapshots, figures, what the run says of itself, and its mesh."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from inspect import isclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from text23d.contracts import Task
from text23d.engine import snapshots
from text23d.engine.build import task_alone
from text23d.engine.folder import COMMANDS, METRICS, SUMMARY, in_use
from text23d.engine.live import STATUS
from text23d.engine.resume import read_config
from text23d.engine.snapshots import Snapshot
from text23d.errors import UserError
from text23d.files import read_json
from text23d.representation.nerf import Nerf
from text23d.settings import target_of

FIGURES = ("sigma", "loss", "noise_ratio")
KEPT = 3
"""Snapshots that are kept in memory."""
FINAL = ("nerf", "image", "panorama", "video", "audio")
"""Kinds of the parameters that finished runs leave."""


class Source:
    """The run in `folder`. note: is told, once, what a person should know. is_object: whether what it makes is seen
    from all sides; all else is looked at as a picture. Raises UserError where no run is there."""

    def __init__(self, folder: Path, device: torch.device, note: Callable[[str], None]) -> None:
        self.folder, self.device, self.note = folder, device, note
        self.cfg = read_config(folder)
        made = target_of(self.cfg["representation"], "representation")
        self.is_object = isclass(made) and issubclass(made, Nerf)
        self._read: OrderedDict[tuple[Path, int], Snapshot] = OrderedDict()
        self._damaged: set[tuple[Path, int]] = set()
        self._task: Task | None = None
        self._lines: list[Mapping[str, Any]] = []
        self._seen = (0, 0)

    @property
    def running(self) -> bool:
        return in_use(self.folder)

    @property
    def listens(self) -> bool:
        """Whether a run is on its way that does what commands say."""
        return self.running and (self.folder / STATUS).exists()

    def frames(self) -> dict[int, Path]:
        """Files from which phi can be read, by iteration, in its order."""
        found = {
            number: path
            for number, path in snapshots.listed(self.folder).items()
            if (path, _stamp(path)) not in self._damaged
        }
        final = next((path for kind in FINAL if (path := self.folder / f"{kind}.safetensors").is_file()), None)
        if final is not None and not self.running and (final, _stamp(final)) not in self._damaged:
            last = self._iteration_of(final, max(found, default=0))
            found = {number: path for number, path in found.items() if number < last} | {last: final}
        return found

    def _iteration_of(self, final: Path, otherwise: int) -> int:
        snapshot = self.snapshot(final)
        return otherwise if snapshot is None else snapshot.iteration

    def snapshot(self, path: Path) -> Snapshot | None:
        """What a file holds; None where it is damaged, which is noted once, or gone."""
        key = path, _stamp(path)
        if key in self._damaged or not key[1]:
            return None
        if key in self._read:
            self._read.move_to_end(key)
            return self._read[key]
        try:
            found = snapshots.read(path, self.cfg)
        except UserError as error:
            if path.exists():  # a run takes away what it replaces
                self._damaged.add(key)
                self.note(f"{error}; it is left out")
            return None
        found.phi.to(self.device)
        if found.seen is None and path.parent == self.folder:
            found = replace(found, seen=self._seen_last(found.iteration))
        self._read[key] = found
        while len(self._read) > KEPT:
            self._read.popitem(last=False)
        return found

    def _seen_last(self, iteration: int) -> torch.Tensor | None:
        """The pictures of the last snapshot up to this iteration: the parameters of a finished run have none."""
        before = [each for number, each in snapshots.listed(self.folder).items() if number <= iteration]
        own = [each for each in before if each.parent != self.folder and each.parent.name == "snapshots"]
        found = self.snapshot(own[-1]) if own else None
        return None if found is None else found.seen

    def preview(self, snapshot: Snapshot) -> torch.Tensor:
        """Pictures [K, 4, H, W] of what is no object, as the run itself looks at it. Raises UserError."""
        if self._task is None:
            self._task = task_alone(self.cfg, self.device, self.note)
        return self._task.preview(snapshot.phi)

    def status(self) -> Mapping[str, Any]:
        """What the run said of itself last; empty where it says nothing."""
        with suppress(UserError):
            return read_json(self.folder / STATUS)
        return {}

    def summary(self) -> Mapping[str, Any]:
        """summary.json of a finished run; else empty."""
        with suppress(UserError):
            return read_json(self.folder / SUMMARY)
        return {}

    def lines(self) -> list[Mapping[str, Any]]:
        """The figures of each iteration so far."""
        path = self.folder / METRICS
        with suppress(OSError):
            now = path.stat()
            if (now.st_mtime_ns, now.st_size) != self._seen:
                self._seen = now.st_mtime_ns, now.st_size
                self._lines = [line for text in path.read_bytes().splitlines() if (line := _line(text)) is not None]
        return self._lines

    def figures(self) -> dict[str, np.ndarray]:
        """Columns of these lines: iteration and FIGURES, float64, NaN where there is none."""
        lines = self.lines()
        return {name: np.array([_number(line, name) for line in lines]) for name in ("iteration", *FIGURES)}

    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """At which iterations the judge was asked, and the mean probability that it gave to what the prompt names."""
        pairs = []
        for each in self.status().get("scores", []):
            with suppress(TypeError, ValueError, IndexError, KeyError):
                pairs.append((float(each[0]), float(each[1])))
        summary = self.summary()
        named = [v for k, v in (summary.get("score") or {}).items() if k.endswith("probability")] if summary else []
        if named:
            pairs.append((float(summary.get("iterations", 0)), sum(named) / len(named)))
        found = np.array(sorted(pairs), float).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def commands(self) -> list[str]:
        """What was changed when, a line each."""
        told = []
        with suppress(OSError):
            for text in (self.folder / COMMANDS).read_bytes().splitlines():
                each = _line(text)
                if each is not None and "command" in each:
                    told.append(_told(each))
        return told

    def mesh(self) -> Path | None:
        path = self.folder / "mesh.glb"
        return path if path.is_file() else None


def _stamp(path: Path) -> int:
    """By which a file that was replaced is known; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _line(text: bytes) -> Mapping[str, Any] | None:
    """A line of JSON; None for what is being written, or damaged."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("iteration"), int) else None


def _number(line: Mapping[str, Any], name: str) -> float:
    value = line.get(name)
    return float(value) if isinstance(value, int | float) else float("nan")


def _told(record: Mapping[str, Any]) -> str:
    what = str(record["command"])
    if "prompt" in record:
        what += f" {record['prompt']!r}"
    if "scale" in record:
        what += f" {record['scale']:g}" + (" of windows" if record.get("of") == "windows" else "")
    refused = f": refused, {record['refused']}" if "refused" in record else ""
    return f"after iteration {record['iteration']}: {what}{refused}"
