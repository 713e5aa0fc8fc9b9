"""Variants of a run x prompts x seeds at equal cost: panoramas, videos or sounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from text23d.files import write_json, write_text
from text23d.judge import network
from text23d.judge.network import Judge
from text23d.paths import weights_of
from text23d.quoting import quoted
from text23d.studies.comparison.budget import Calibration, affordable
from text23d.studies.records import check_settings
from text23d.studies.runs import job, make_missing, run_folder
from text23d.studies.strips.figures import accuracies, coherence, kid_ratio
from text23d.studies.strips.growth import grown
from text23d.studies.strips.made import Made
from text23d.studies.strips.media import MEDIA, Medium
from text23d.studies.strips.reference import Reference, references
from text23d.studies.strips.suite import StripStudy
from text23d.studies.strips.table import picture, strips_csv, strips_table


def compare_strips(study: StripStudy, say: Callable[[str], None]) -> dict[str, Any]:
    """Make what is missing in the folder, and write results.json, .md, .csv and .png there; returns the results.

    Raises UserError for prompts that the world does not know, before anything is made, and where the folder holds
    results of other settings or weights.
    """
    folder, medium, suite, overrides = Path(study.folder), MEDIA[study.medium.name], study.medium, study.overrides()
    judge = network.load(weights_of("judge", medium.world.name))
    for prompt in [*suite.prompts, *(each for pair in suite.pairs for each in pair)]:
        medium.world.read(prompt)
    measured = (suite.prompts[0], study.calibration, None)
    costs, unknown = Calibration(folder / "costs", *measured, study.workers, study.device).costs(overrides)
    reference = references(medium, suite.prompts, study.windows, folder / "reference")
    board = Board(study, list(unknown.values()))
    for name, cost in costs.items():
        say(name)
        settings = [*overrides[name], f"method.iterations={affordable(cost, 'evaluations', suite.evaluations)}"]
        check_settings(folder / name, {"settings": settings})
        whole, parted, problems = runs(study, folder / name, settings)
        board.failed += [f"{name}: {each}" for each in problems]
        if whole:
            board.rows[name] = figures(judge, medium, whole, parted, reference)
            board.shown[name] = [*whole, *parted]
        board.write(folder)  # a table half made compares already
    say("time and memory against length")
    board.growth, problems = grown(study, folder / "growth")
    board.failed += problems
    board.write(folder)
    return board.results


@dataclass
class Board:
    """What there is so far: the figures of each variant, its results, what failed, and how cost grows with length."""

    study: StripStudy
    failed: list[str]
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    shown: dict[str, list[Made]] = field(default_factory=dict)
    growth: list[dict[str, float]] = field(default_factory=list)

    @property
    def results(self) -> dict[str, Any]:
        return {
            "medium": self.study.medium.name,
            "date": time.strftime("%Y-%m-%d"),
            "evaluations": self.study.medium.evaluations,
            "variants": self.study.medium.variants,
            "figures": self.rows,
            "growth": self.growth,
            "failed": self.failed,
        }

    def write(self, folder: Path) -> None:
        """results.json, .md, .csv and .png."""
        write_json(folder / "results.json", self.results)
        write_text(folder / "results.md", strips_table(self.results))
        write_text(folder / "results.csv", strips_csv(self.results))
        picture(self.shown, folder / "results.png")


def runs(study: StripStudy, folder: Path, settings: Sequence[str]) -> tuple[list[Made], list[Made], list[str]]:
    """The runs of one variant, made where they are missing: of one prompt, of two, and what failed."""
    asked, jobs = [], []
    for seed in study.seeds:
        for prompt in study.medium.prompts:
            asked.append([prompt])
            jobs.append(job(run_folder(folder, prompt, seed), prompt, seed, settings))
        for first, second in study.medium.pairs:
            asked.append([first, second])
            halves = f"regions={{start: {quoted(first)}, end: {quoted(second)}}}"
            jobs.append(job(run_folder(folder, f"{first} then {second}", seed), first, seed, [*settings, halves]))
    found: list[Made] = []
    failed = []
    for prompts, outcome in zip(asked, make_missing(jobs, study.workers, study.device), strict=True):
        if outcome.failure:
            failed.append(outcome.failure)
        else:
            found.append(Made.read(prompts, outcome.job.folder))
    return [each for each in found if len(each.prompts) == 1], [each for each in found if len(each.prompts) > 1], failed


def figures(
    judge: Judge, medium: Medium, whole: Sequence[Made], parted: Sequence[Made], reference: Reference
) -> dict[str, float]:
    """Those of one variant; `table.titles` says what they are. whole: of one prompt; parted: of two."""
    shape = medium.world.shape
    world, samples = (torch.cat([reference[each.prompts[0]][which] for each in whole]) for which in (0, 1))
    beside = [each.beside(shape) for each in whole]
    opinions = [judge.look(each) for each in beside]
    spent = [each.spent() for each in whole]
    found = {
        **accuracies(judge, medium.world, whole),
        **medium.figures(judge, whole),
        "coherence": coherence(opinions, judge.look(world).features, whole[0].wrap),
        **kid_ratio(judge, torch.cat(beside), samples, world),
        **{name: fmean(each[name] for each in spent) for name in spent[0]},
        "runs": len(whole) + len(parted),
    }
    if parted:
        found["regions"] = accuracies(judge, medium.world, parted)["asked"]
    return found
