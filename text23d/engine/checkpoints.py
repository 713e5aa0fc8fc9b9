"""The checkpoints of a run: its whole state in its folder, the last few and the best."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text23d import checkpoint
from text23d.engine.folder import CHECKPOINTS
from text23d.errors import UserError
from text23d.settings import Count, Flag, NonNegative

SHARE = 0.02
"""Of the time that a run may spend on its checkpoints: where they take longer, they are fewer than `every` says."""


@dataclass(frozen=True)
class CheckpointSettings:
    """What `checkpoint` in conf/config.yaml explains.

    every   seconds from one checkpoint to the next; 0: one after each iteration, whatever it costs; None: only when the
            run ends or is stopped.
    keep    how many of the last ones are kept, beside the best.
    last    whether a finished run keeps its last one, so that it may go on for more iterations.
    """

    every: NonNegative | None = 20.0
    keep: Count = 2
    last: Flag = True


class Checkpoints:
    """Those of the run in `folder`. best: the iteration of the one with the highest score, and that score."""

    def __init__(self, folder: Path, settings: CheckpointSettings) -> None:
        self.folder, self.settings = folder / CHECKPOINTS, settings
        self.best: dict[str, float] = {}
        self._saved = time.monotonic()
        self._wait = settings.every or 0.0

    @property
    def due(self) -> bool:
        return self.settings.every is not None and time.monotonic() - self._saved >= self._wait

    def save(
        self, iteration: int, contents: Callable[[], Mapping[str, Any]], score: Callable[[], float | None]
    ) -> None:
        """Write what `contents` gives as the checkpoint of this iteration, and remove those that are no longer kept.
        Raises UserError where it cannot be written: those before stay whole."""
        start = time.monotonic()
        merit = score()
        if merit is not None and merit >= self.best.get("score", merit):
            self.best = {"iteration": iteration, "score": merit}
        checkpoint.save(self.path(iteration), {**contents(), "best": self.best})
        self._prune()
        self._saved = time.monotonic()
        self._wait = max(self.settings.every, (self._saved - start) / SHARE) if self.settings.every else 0.0

    def path(self, iteration: int) -> Path:
        return self.folder / f"{iteration:06d}.safetensors"

    def iterations(self) -> list[int]:
        """Of which there are checkpoints, the newest first."""
        names = (re.fullmatch(r"(\d{6,})\.safetensors", each.name) for each in self.folder.glob("*.safetensors"))
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def read(self, note: Callable[[str], None], most: int | None = None) -> Iterator[dict[str, Any]]:
        """What the checkpoints hold, the newest first, up to iteration `most`. A damaged one is noted and passed
        over."""
        for iteration in self.iterations():
            if most is None or iteration <= most:
                try:
                    yield checkpoint.load(self.path(iteration))
                except UserError as error:
                    note(f"{error}; the checkpoint before it is used")

    def remove_after(self, iteration: int) -> None:
        """Take away those of later iterations, to which the run does not lead any more."""
        for each in self.iterations():
            if each > iteration:
                self.path(each).unlink(missing_ok=True)
        if self.best.get("iteration", 0) > iteration:
            self.best = {}

    def finish(self) -> None:
        """Of a finished run, keep the last only, or none."""
        if not self.settings.last:
            return self.clear()
        for iteration in self.iterations()[1:]:
            self.path(iteration).unlink(missing_ok=True)

    def clear(self) -> None:
        """Take away all of them, and their folder."""
        self.remove_after(-1)
        with suppress(OSError):
            self.folder.rmdir()

    def _prune(self) -> None:
        kept = {*self.iterations()[: self.settings.keep], self.best.get("iteration")}
        for iteration in self.iterations():
            if iteration not in kept:
                self.path(iteration).unlink(missing_ok=True)
