"""How good the prior's samples and the 3-D runs are, beside what the judge makes of the world itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from text23d.artifact.formats import WRITERS
from text23d.artifact.formats import read as read_mesh
from text23d.artifact.media import contact_sheet, on_white
from text23d.artifact.portrait import portraits
from text23d.engine.resume import read_config
from text23d.files import write_json, write_text
from text23d.judge import network
from text23d.judge.network import Judge
from text23d.prior.builtin import prior as builtin
from text23d.quoting import quoted
from text23d.settings import Count, Seed, read
from text23d.studies.evaluation.aims import aims
from text23d.studies.evaluation.samples import Sampling, corrupted, renders, samples
from text23d.studies.evaluation.solids import world_folder, world_meshes
from text23d.studies.evaluation.table import BY_PROMPT, results_table
from text23d.studies.figures import Judged, PictureSet, judge_all, summary
from text23d.studies.overrides import Override, check_overrides
from text23d.studies.records import Name, check_settings
from text23d.studies.runs import mesh_fits, run_cameras, suite_runs
from text23d.studies.suite import WORLD, Prompts, Suite, read_suite
from text23d.tasks.meshing import MeshSettings

REFERENCE_SEED, CEILING_SEED = (WORLD.splits[f"evaluation_{name}"] for name in ("reference", "world"))
"""Of the world's renders that KID compares with, and of those that the judge's ceiling is measured on."""
SIDES, SHEET_COLUMNS = slice(0, 8, 2), 3
"""The views of a thing that are shown, and so many things in a row."""

Sources = dict[str, tuple[list[PictureSet], list[PictureSet]]]
"""By name, the pictures of a source, and the world's that KID compares them with."""


@dataclass(frozen=True)
class Runs:
    """The runs of each prompt, one for each of `seeds` (none: only samples are scored), `workers` at a time, with
    `settings` of their own."""

    seeds: Annotated[list[Seed], Field(description="whole numbers, as in runs.seeds=[0,1]; [] makes no runs")] = field(
        default_factory=lambda: [0]
    )
    workers: Count = 2
    settings: list[Override] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """`conf/evaluate.yaml`. weights, judge: files of the prior's and the judge's weights; None: those shipped."""

    folder: Name
    suite: Prompts
    samples: Sampling
    runs: Runs
    device: str = "auto"
    weights: Name | None = None
    judge: Name | None = None

    def __post_init__(self) -> None:
        check_overrides(self.runs.settings, "runs.settings")

    @property
    def overrides(self) -> list[str]:
        """The settings of all runs."""
        weights = [f"prior.weights={quoted(self.weights)}"] if self.weights else []
        return [*weights, *self.runs.settings]


def evaluate(settings: Evaluation, device: torch.device) -> dict[str, Any]:
    """Make what is missing in the folder, score all of it, and write results.json, results.md and pictures there.

    Returns the results; "failed" are the runs that are missing in them. Raises UserError for weights and prompts that
    do not serve, before anything is made, and where the folder holds results of other settings.
    """
    folder, prior = Path(settings.folder), builtin.load(settings.weights, device, builtin.fast_precision(device))
    judge = network.load(settings.judge)
    suite, how = read_suite(settings.suite, judge), settings.samples
    results: dict[str, Any] = {
        "suite": suite.name,
        "about": {"date": time.strftime("%Y-%m-%d"), "images": prior.card["images"], "judge": judge.card},
    }
    settled = {name: value for name, value in asdict(how).items() if name != "sets"}  # more sets may be added
    check_settings(folder / "samples", {"prior": prior.card, **settled})
    sources: Sources = {}
    reference = renders(suite, how.sets, REFERENCE_SEED, how.cameras)
    sources["samples"] = samples(prior, suite, folder / "samples", how), reference
    failed, meshes = list[str](), dict[str, Any]()
    if seeds := settings.runs.seeds:
        where, overrides = folder / "runs", settings.overrides
        check_settings(where, {"prior": prior.card, "settings": overrides})
        sets, folders, failed = suite_runs(suite, where, seeds, settings.runs.workers, overrides, settings.device)
        meshes = mesh_figures(suite, folders, sets, failed, folder)
        sources["runs"] = sets, renders(suite, how.sets, REFERENCE_SEED, run_cameras())
    ceiling = renders(suite, how.sets, CEILING_SEED, how.cameras)
    sources |= {"world": (ceiling, reference), "world_corrupted": (corrupted(ceiling), reference)}
    results |= {**score(judge, suite, sources), "failed": failed, "meshes": meshes}
    results["aims"] = aims(results["figures"]["all"], meshes)
    write(results, sources, folder)
    return results


def mesh_figures(
    suite: Suite, folders: Sequence[Path], sets: Sequence[PictureSet], failed: Sequence[str], where: Path
) -> dict[str, Any]:
    """Of the meshes of runs and, made below `where` with the same settings, of the world's own objects; "asked" is the
    number of runs, also of those that failed. Empty where no run has a mesh."""
    runs = mesh_fits(folders, sets)
    if not runs:
        return {}
    settings = read(MeshSettings, read_config(folders[0]).get("mesh", {}), "mesh.")
    world = world_meshes(suite, where / "world", CEILING_SEED, settings)
    own = {prompt: world_folder(where / "world", prompt) for prompt in world}
    mesh_sheet(own.items(), where / "world.png")
    mesh_sheet([(each.prompt, folder) for folder, each in zip(folders, sets, strict=True)], where / "meshes.png")
    return {"asked": len(folders) + len(failed), "runs": runs, "world": world}


def score(judge: Judge, suite: Suite, sources: Sources) -> dict[str, Any]:
    """Every figure by group and source, and by prompt and source, of those BY_PROMPT."""
    asked = {prompt: suite.asked(prompt) for prompt in suite.prompts}
    judged = {name: (judge_all(judge, sets), judge_all(judge, others)) for name, (sets, others) in sources.items()}
    groups = {"all": set(asked)} | {
        group: {prompt for prompt in asked if suite.group[prompt] == group} for group in suite.group.values()
    }
    figures = {
        group: {
            name: summary(judge, own, asked, of_prompts(reference, inside))
            for name, (sets, reference) in judged.items()
            if (own := of_prompts(sets, inside))
        }
        for group, inside in groups.items()
    }
    rows = {
        prompt: {
            name: summary(judge, own, asked, of_prompts(reference, {prompt}))
            for name, (sets, reference) in judged.items()
            if name in BY_PROMPT and (own := of_prompts(sets, {prompt}))
        }
        for prompt in asked
    }
    return {"figures": figures, "prompts": rows}


def of_prompts(judged: Judged, prompts: set[str]) -> Judged:
    return [(each, opinion) for each, opinion in judged if each.prompt in prompts]


def write(results: Mapping[str, Any], sources: Sources, folder: Path) -> None:
    """The results, their tables, and a sheet of samples and one of runs."""
    write_json(folder / "results.json", results)
    write_text(folder / "results.md", results_table(results))
    for name in ("samples", "runs"):
        if name in sources and sources[name][0]:
            picture_sheet(sources[name][0], folder / f"{name}.png")


def picture_sheet(sets: Sequence[PictureSet], path: Path) -> None:
    """The first thing of each prompt from four sides."""
    first = {each.prompt: each for each in reversed(sets)}
    prompts = dict.fromkeys(each.prompt for each in sets)
    sheet([(prompt, list(on_white(first[prompt].pictures[SIDES]))) for prompt in prompts], path)


def mesh_sheet(folders: Iterable[tuple[str, Path]], path: Path) -> None:
    """The first mesh of each prompt in these folders as clay and, beside it, unlit. Raises UserError where a file is
    damaged."""
    cells: dict[str, list[np.ndarray]] = {}
    for prompt, folder in folders:
        file = next((name for each in WRITERS if (name := folder / f"mesh.{each}").is_file()), None)
        if file is not None and prompt not in cells:
            cells[prompt] = portraits(read_mesh(file))
    if cells:
        sheet(list(cells.items()), path)


def sheet(cells: Sequence[tuple[str, list[np.ndarray]]], path: Path) -> None:
    """Pictures under their names, SHEET_COLUMNS of them in a row."""
    rows = [cells[start : start + SHEET_COLUMNS] for start in range(0, len(cells), SHEET_COLUMNS)]
    contact_sheet([(" | ".join(name for name, _ in row), [p for _, each in row for p in each]) for row in rows], path)
