"""Variants of a run x prompts x seeds at equal cost: panoramas that go all the way round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from text23d.artifact.media import contact_sheet, on_white
from text23d.engine.folder import SUMMARY
from text23d.files import load_tensors, read_json, write_json, write_text
from text23d.judge import network
from text23d.judge.network import Judge
from text23d.paths import weights_of
from text23d.prior.builtin import prior as builtin
from text23d.settings import Count, Positive, Seed, checked
from text23d.studies.comparison.budget import Calibration, affordable, read_cost
from text23d.studies.comparison.study import Lineup
from text23d.studies.markdown import number, table
from text23d.studies.overrides import Override, check_overrides
from text23d.studies.records import Name, check_settings, mapping, reading
from text23d.studies.runs import job, make_missing, run_folder
from text23d.studies.strips.figures import coherence, edge_ratio, kid_ratio, neighbours, seam_rank
from text23d.studies.strips.windows import prior_windows, world_windows
from text23d.tasks.panorama import opaque
from text23d.worlds.landscapes.world import Landscapes

WINDOW, GUIDANCE = 64, 3.0
"""Of the prior's pictures, and the guidance that panoramas are made with."""
ALL = ("outputs=minimal", "stages=1", "representation=panorama", "representation.wrap=true")
COLUMNS = {
    "scene": "scene right",
    "time": "time right",
    "regions": "regions right",
    "edges": "step at edges / elsewhere",
    "seam": "larger steps than the seam's",
    "kid": "KID",
    "kid_ratio": "KID / prior's own",
    "coherence": "coherence",
    "evaluations": "evaluations",
    "seconds": "seconds",
    "runs": "runs",
}


@dataclass(frozen=True)
class StripStudy:
    """`conf/strips.yaml`.

    prompts      of panoramas of one prompt; pairs: of those whose left and right halves have one each
    evaluations  of the network on one window that a run may make
    calibration  iterations that measure what one costs
    windows      of the world and of the prior's samples, for each prompt, that panoramas are compared with
    workers      runs at a time

    Raises UserError where one cannot be used.
    """

    folder: Name
    lineup: Lineup
    prompts: Annotated[list[str], Field(min_length=1, description="prompts")]
    pairs: list[tuple[str, str]]
    seeds: Annotated[list[Seed], Field(min_length=1, description="whole numbers, as in seeds=[0,1]")]
    evaluations: Positive
    calibration: Count
    windows: Count
    workers: Count
    settings: list[Override] = field(default_factory=list)
    device: str = "auto"

    def overrides(self) -> dict[str, list[str]]:
        """All settings of each variant's runs but their prompts and number of iterations."""
        found = {}
        for name, own in self.lineup.variants.items():
            said = checked(own, list[Override], f"lineup.variants.{name}")
            check_overrides(said, f"lineup.variants.{name}")
            found[name] = [*ALL, *self.lineup.settings, *self.settings, *said]
        return found


@dataclass(frozen=True)
class Made:
    """A finished run: its panorama [3, H, W] and its summary. prompt: empty where halves have their own; title: all."""

    prompt: str
    title: str
    folder: Path
    panorama: Tensor
    summary: Mapping[str, Any]

    @staticmethod
    def read(prompt: str, title: str, folder: Path) -> Made:
        tensors, _ = load_tensors(folder / "panorama.safetensors", "panorama")
        with reading(folder / SUMMARY):
            return Made(prompt, title, folder, tensors["values"], mapping(read_json(folder / SUMMARY)))

    @property
    def spent(self) -> dict[str, float]:
        """Evaluations of the network on one window, and seconds of the loop."""
        return {name: each * self.summary["iterations"] for name, each in vars(read_cost(self.folder)).items()}

    @property
    def windows(self) -> Tensor:
        """Those side by side, [N, 3, WINDOW, WINDOW]."""
        return torch.stack([self.panorama[..., x : x + WINDOW] for x in neighbours(self.panorama.shape[2], WINDOW)])


def compare_strips(study: StripStudy, say: Callable[[str], None]) -> dict[str, Any]:
    """Make what is missing in the folder, and write results.json, results.md and panoramas.png there; returns the
    results. Raises UserError where the folder holds results of other settings."""
    folder, world, overrides = Path(study.folder), Landscapes(), study.overrides()
    judge = network.load(weights_of("judge", world.name))
    for prompt in [*study.prompts, *(each for pair in study.pairs for each in pair)]:
        world.read(prompt)
    measured = (study.prompts[0], study.calibration, None)
    costs, unknown = Calibration(folder / "costs", *measured, study.workers, study.device).costs(overrides)
    reference = references(study, world)
    board = Board(study, list(unknown.values()))
    for name, cost in costs.items():
        say(name)
        settings = [*overrides[name], f"method.iterations={affordable(cost, 'evaluations', study.evaluations)}"]
        check_settings(folder / name, {"settings": settings})
        whole, parted, problems = runs(study, folder / name, settings)
        board.failed += [f"{name}: {each}" for each in problems]
        if whole:
            board.rows[name] = figures(judge, whole, parted, reference)
            board.shown[name] = [*whole, *parted]
        board.write(folder)  # a table half made compares already
    return board.results


@dataclass
class Board:
    """What there is so far: the figures of each variant, its panoramas, and what failed."""

    study: StripStudy
    failed: list[str]
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    shown: dict[str, list[Made]] = field(default_factory=dict)

    @property
    def results(self) -> dict[str, Any]:
        return {
            "lineup": self.study.lineup.name,
            "date": time.strftime("%Y-%m-%d"),
            "evaluations": self.study.evaluations,
            "variants": self.study.lineup.variants,
            "figures": self.rows,
            "failed": self.failed,
        }

    def write(self, folder: Path) -> None:
        """results.json, results.md and panoramas.png."""
        write_json(folder / "results.json", self.results)
        write_text(folder / "results.md", strips_table(self.results))
        pictures = {
            name: on_white(opaque(torch.stack([each.panorama for each in made]))) for name, made in self.shown.items()
        }
        rows = [
            (f"{name}: {made.title}", [picture])
            for name in pictures
            for made, picture in zip(self.shown[name], pictures[name], strict=True)
        ]
        if rows:
            contact_sheet(sorted(rows, key=lambda row: row[0].partition(": ")[2]), folder / "panoramas.png")


def references(study: StripStudy, world: Landscapes) -> dict[str, tuple[Tensor, Tensor]]:
    """By prompt the world's windows and the prior's own samples."""
    prior = builtin.load(weights_of("prior", world.name))
    return {
        prompt: (
            world_windows(world, world.read(prompt), study.windows),
            prior_windows(prior, world, prompt, study.windows, GUIDANCE),
        )
        for prompt in study.prompts
    }


def runs(study: StripStudy, folder: Path, settings: Sequence[str]) -> tuple[list[Made], list[Made], list[str]]:
    """The runs of one variant, made where they are missing: of one prompt, of two, and what failed."""
    jobs = []
    for seed in study.seeds:
        for prompt in study.prompts:
            jobs.append((prompt, prompt, job(run_folder(folder, prompt, seed), prompt, seed, settings)))
        for left, right in study.pairs:
            both, parts = f"{left} and {right}", f"regions={{left: '{left}', right: '{right}'}}"
            jobs.append(("", both, job(run_folder(folder, both, seed), left, seed, [*settings, parts])))
    found: dict[bool, list[Made]] = {True: [], False: []}
    failed = []
    outcomes = make_missing([each for *_, each in jobs], study.workers, study.device)
    for (prompt, title, _), outcome in zip(jobs, outcomes, strict=True):
        if outcome.failure:
            failed.append(outcome.failure)
        else:
            found[bool(prompt)].append(Made.read(prompt, title, outcome.job.folder))
    return found[True], found[False], failed


def figures(
    judge: Judge, whole: list[Made], parted: list[Made], reference: Mapping[str, tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """The figures of one variant, in the order of COLUMNS."""

    def scored(made: list[Made], name: str) -> float:
        return statistics.fmean(each.summary["score"][f"{name}_accuracy"] for each in made)

    world = torch.cat([reference[each.prompt][0] for each in whole])
    samples = torch.cat([reference[each.prompt][1] for each in whole])
    found = {
        "scene": scored(whole, "scene"),
        "time": scored(whole, "time"),
        "edges": statistics.fmean(edge_ratio(each.panorama, WINDOW, True) for each in whole),
        "seam": statistics.fmean(seam_rank(each.panorama) for each in whole),
        "coherence": coherence([judge.look(each.windows) for each in whole], judge.look(world).features),
        **kid_ratio(judge, torch.cat([each.windows for each in whole]), samples, world),
        **{name: statistics.fmean(each.spent[name] for each in whole) for name in ("evaluations", "seconds")},
        "runs": len(whole) + len(parted),
    }
    if parted:
        found["regions"] = scored(parted, "scene")
    return found


def strips_table(results: Mapping[str, Any]) -> str:
    """The results as markdown."""
    lines = [f"# Panoramas of 512 x 64 pixels, lineup `{results['lineup']}`, {results['date']}", ""]
    lines += [f"{results['evaluations']:g} evaluations of the network on one window for each run.", ""]
    present = [name for name in COLUMNS if any(name in row for row in results["figures"].values())]
    digits = {"evaluations": 0, "seconds": 0, "runs": 0}
    cells = (
        [name, *(number(row.get(column), digits.get(column, 3)) for column in present)]
        for name, row in results["figures"].items()
    )
    lines += [*table(["variant", *(COLUMNS[name] for name in present)], cells), ""]
    lines += [f"- failed: {each}" for each in results["failed"]]
    return "\n".join(lines) + "\n"
