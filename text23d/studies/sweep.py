"""A sweep: many main jobs in one folder. Those that have finished are not made again, the others go on where they
stopped, and all of them end in one table and one picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.utils import setup_globals

from text23d.compose import plain
from text23d.engine.folder import CONFIG, SUMMARY
from text23d.engine.resume import are_same, is_finished, read_config
from text23d.engine.spoken import verdict
from text23d.errors import UserError
from text23d.files import read_json
from text23d.studies.gallery import PIXELS, Failed, Gallery, make_gallery
from text23d.studies.launcher import Job, Outcome, Source, launch

RESUME = "resume.folder=auto"


@dataclass(frozen=True)
class Member:
    """A run of a sweep: its job, and the configuration that this makes."""

    job: Job
    cfg: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether an earlier sweep has made it."""
        path = self.job.folder / SUMMARY
        try:
            return path.exists() and is_finished(read_json(path), self.cfg)
        except UserError:  # damaged
            return False

    def failed(self, reason: str) -> Failed:
        return Failed(self.job.folder.name, str(self.cfg.get("prompt")), self.cfg.get("seed"), reason)


def make_sweep(
    runs: Sequence[Sequence[str]], source: Source, folder: Path, command: str, say: Callable[[str], None]
) -> None:
    """Make the runs of these settings in `folder`, one that fails stopping no other, then their gallery.

    command: the one that goes on with this sweep; `say` tells it and how each run ended. Raises UserError where runs
    failed, after all the others.
    """
    members = plan(runs, source, folder)
    missing = [each for each in members if not each.finished]
    there = f", of which {len(members) - len(missing)} are there already" if len(missing) < len(members) else ""
    say(f"{len(members)} runs in {folder}{there}; to go on with them later: {command}")

    def ended(outcome: Outcome) -> None:
        where = outcome.job.folder
        if outcome.failure:
            say(f"{where.name} failed: {outcome.failure}")
        else:
            say(verdict(read_json(where / SUMMARY), where.name, where))

    jobs = [each.job for each in missing]
    outcomes = {each.job: each for each in launch(jobs, 1, source=source, on_end=ended)} if jobs else {}
    failed = [
        each.failed(outcome.failure) for each in members if (outcome := outcomes.get(each.job)) and outcome.failure
    ]
    done = [each.job.folder for each in members if each.job.folder.name not in {one.folder for one in failed}]
    _, skipped = make_gallery(fitting(folder, len(members)), done, failed)
    for line in skipped:
        say(line)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(members)} runs failed, {failed[0].folder} first: see {folder / 'gallery.md'}; "
            f"this makes them again: {command}"
        )
    say(f"all {len(members)} runs are done; see {folder / 'gallery.png'} and gallery.md")


def fitting(folder: Path, runs: int) -> Gallery:
    """The gallery of so many runs, with pictures as large as fit into one."""
    size = 128
    while (runs + 2) * 4 * size**2 > PIXELS and size > 8:
        size //= 2
    return Gallery(str(folder), size=size)


def plan(runs: Sequence[Sequence[str]], source: Source, folder: Path) -> list[Member]:
    """The members of a sweep, each in the folder that an earlier sweep gave to a run of the same configuration, else in
    a new one. What is asked for twice is made once."""
    setup_globals()
    master, known, members = source.master(folder.absolute()), Known(folder), list[Member]()
    for number, overrides in enumerate(runs):
        cfg = source.member(master, overrides, number)
        own = plain(cfg)
        where = known.place(str(cfg.hydra.sweep.subdir), own)
        if where is not None:
            going_on = [] if any(each.startswith("resume.folder=") for each in overrides) else [RESUME]
            members.append(Member(Job((*overrides, *going_on), where), own))
    return members


@dataclass
class Known:
    """The runs in the folder of a sweep, by prompt and seed, with their configurations."""

    folder: Path
    runs: dict[tuple[str, str], dict[Path, dict[str, Any]]] = field(default_factory=dict)
    taken: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        for path in sorted(self.folder.glob(f"*/{CONFIG}")) if self.folder.is_dir() else []:
            try:
                self.add(path.parent, read_config(path.parent))
            except UserError:
                continue  # damaged: its folder is left alone

    def add(self, where: Path, cfg: dict[str, Any]) -> None:
        self.runs.setdefault(self.key(cfg), {})[where] = cfg

    def key(self, cfg: dict[str, Any]) -> tuple[str, str]:
        return str(cfg.get("prompt")), str(cfg.get("seed"))

    def place(self, name: str, cfg: dict[str, Any]) -> Path | None:
        """The folder for a run of this configuration, by preference of this name; None: it has one already."""
        alike = self.runs.get(self.key(cfg), {})
        where = next((each for each, other in alike.items() if are_same(other, cfg)), None)
        if where is None:
            names = (name, *(f"{name}-{number}" for number in range(2, 1 << 20)))
            where = next(path for path in (self.folder / each for each in names) if self.is_free(path))
            self.add(where, cfg)
        elif where in self.taken:
            return None
        self.taken.add(where)
        return where

    def is_free(self, where: Path) -> bool:
        """Whether no run is there: what failed before it began has left its log at most."""
        if where in self.taken or (where / CONFIG).exists():
            return False
        return where.is_dir() or not os.path.lexists(where)
