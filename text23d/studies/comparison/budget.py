"""Equal cost: what an iteration of each variant costs here, and how many of them a budget buys."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from text23d.engine.folder import CONFIG, METRICS
from text23d.engine.resume import read_config
from text23d.studies.launcher import Job
from text23d.studies.records import check_settings, number, read_json_lines, reading
from text23d.studies.runs import job, make_missing

BUDGETS = {"seconds": "equal wall-clock time", "evaluations": "equal network evaluations"}
WINDOW = 8
"""Iterations over which a run's cost is taken to be the same."""


@dataclass(frozen=True)
class Cost:
    """Of an iteration: seconds of the loop, and network evaluations, each on one picture."""

    seconds: float
    evaluations: float


@dataclass(frozen=True)
class Calibration:
    """How costs are measured: by runs of `prompt` below `folder`, `iterations` long, as many at a time as the
    comparison will have. Given a budget of `seconds`, then by runs as long as that buys by the first: late iterations
    are cheaper, since the occupancy leaves out most of space then, and how many of a run are late depends on its
    length."""

    folder: Path
    prompt: str
    iterations: int
    seconds: float | None
    workers: int
    device: str

    def costs(self, variants: Mapping[str, Sequence[str]]) -> tuple[dict[str, Cost], dict[str, str]]:
        """The cost of each variant, given by the overrides of its runs; and why it is not known of those whose run
        failed. What was measured before is not measured again."""
        first = {name: self.iterations for name in variants}
        known, failed = self.measure(variants, first, "")
        if self.seconds is not None:
            lengths = {name: affordable(cost, "seconds", self.seconds) for name, cost in known.items()}
            known, later = self.measure(variants, lengths, "-at-length")
            failed |= later
        return known, failed

    def measure(
        self, variants: Mapping[str, Sequence[str]], lengths: Mapping[str, int], suffix: str
    ) -> tuple[dict[str, Cost], dict[str, str]]:
        """By runs of these lengths, in folders with this suffix."""
        jobs: dict[str, Job] = {}
        for name, iterations in lengths.items():
            where, overrides = self.folder / f"{name}{suffix}", [*variants[name], f"method.iterations={iterations}"]
            check_settings(where, {"settings": overrides})
            jobs[name] = job(where, self.prompt, 0, overrides)
        outcomes = make_missing(list(jobs.values()), self.workers, self.device)
        failed = {each.job.folder.name: each.failure for each in outcomes if each.failure}
        known = {name: read_cost(each.folder) for name, each in jobs.items() if each.folder.name not in failed}
        return known, {name: f"{name}: {why}" for name, why in failed.items()}


def read_cost(folder: Path) -> Cost:
    """Of a finished run. Its time is the median of each WINDOW of iterations at one resolution, so that what the
    machine does for a moment beside it does not count. The first iteration also warms up, and is left out.

    Raises UserError where the run's files are damaged.
    """
    lines, settings = read_json_lines(folder / METRICS), read_config(folder)
    with reading(folder / CONFIG):
        views = number(settings["method"], "views")
    timed = list(enumerate(lines))[1:] or [(0, lines[0])]
    windows: dict[tuple[str, int], list[float]] = {}
    with reading(folder / METRICS):
        for index, line in timed:
            windows.setdefault((str(line["size"]), index // WINDOW), []).append(number(line, "seconds"))
        evaluations = statistics.fmean(number(line, "nfe") for line in lines)
    total = sum(len(window) * statistics.median(window) for window in windows.values())
    return Cost(total / len(timed), views * evaluations)


def affordable(cost: Cost, by: str, budget: float) -> int:
    """The iterations that `budget` buys, at least one."""
    return max(1, round(budget / getattr(cost, by)))
