"""python -m text23d.evaluate suite=full: how good the prior's samples and the 3-D results are, beside the judge's own
ceiling. What is there already is not made again; results.md, results.json and pictures lie in the folder."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("evaluate")  # which imports what follows once the command line is read

import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from text23d.artifact.media import contact_sheet, on_white
from text23d.cameras import orbit
from text23d.errors import UserError
from text23d.files import write_json, write_text
from text23d.judge import network
from text23d.judge.network import Judge
from text23d.prior.builtin import prior as builtin
from text23d.studies.evaluation import sources
from text23d.studies.evaluation.figures import Judged, PictureSet, accuracies, judge_all, summary
from text23d.studies.evaluation.suite import Suite, read_suite
from text23d.studies.evaluation.table import results_table
from text23d.tasks.object import AZIMUTHS

REFERENCE_SEED, CEILING_SEED = 90_001, 90_002
"""Of the world's renders that KID compares with, and of those the judge's ceiling is measured on."""


def run(cfg: DictConfig) -> None:
    check(cfg)
    folder, device, asked = Path(cfg.folder), cli.device(cfg.device), cfg.samples
    judge, prior = network.load(cfg.judge), builtin.load(cfg.weights, device, builtin.fast_precision(device))
    settings: dict[str, Any] = OmegaConf.to_container(cfg.suite)  # type: ignore[assignment]
    suite = read_suite(settings, judge)
    views = orbit(asked.views, sources.SAMPLE_ELEVATION)
    how = {name: asked[name] for name in ("views", "guidance", "steps", "seed", "sampler")}
    sources.begun(folder / "samples", {"prior": prior.card, **how})
    drawn = sources.samples(prior, suite, folder / "samples", asked.sets, **how)
    found = {"samples": (drawn, sources.worlds(suite, asked.sets, REFERENCE_SEED, views))}
    failed: list[str] = []
    meshes: dict[str, dict[str, float]] = {}
    if cfg.runs.seeds:
        weights = [f"prior.weights='{cfg.weights}'"] if cfg.weights else []
        passed_on = [*weights, *map(str, cfg.runs.settings)]
        sources.begun(folder / "runs", {"prior": prior.card, "settings": passed_on})
        made, failed = sources.runs(suite, folder / "runs", cfg.runs.seeds, cfg.runs.workers, passed_on, cfg.device)
        meshes = sources.meshes(suite, folder / "runs", cfg.runs.seeds)
        found["runs"] = made, sources.worlds(suite, asked.sets, REFERENCE_SEED, sources.run_views())
    ceiling = sources.worlds(suite, asked.sets, CEILING_SEED, views)
    found["world"], found["world_worn"] = (ceiling, found["samples"][1]), (sources.worn(ceiling), found["samples"][1])
    about = {"date": time.strftime("%Y-%m-%d"), "images": prior.card["images"], "judge": judge.card}
    results = {"suite": suite.name, "about": about, **score(judge, suite, found), "failed": failed}
    for prompt, fit in meshes.items():
        results["prompts"][prompt]["mesh"] = fit
    write_json(folder / "results.json", results)
    write_text(folder / "results.md", results_table(results))
    for source in ("samples", "runs"):
        if source in found and found[source][0]:
            picture_sheet(found[source][0], folder / f"{source}.png")
    print(results_table(results), file=sys.stdout)
    if failed:
        raise UserError(f"{len(failed)} runs are missing in {folder / 'results.md'}; the first: {failed[0]}")


def check(cfg: DictConfig) -> None:
    """Raises UserError for settings out of range."""
    least = {"samples.sets": 1, "samples.views": 1, "samples.steps": 1, "samples.seed": 0, "runs.workers": 1}
    for name, smallest in least.items():
        value = OmegaConf.select(cfg, name)
        if type(value) is not int or value < smallest:
            raise UserError(f"{name}={value}: expected a whole number, at least {smallest}")
    if cfg.samples.sampler not in sources.SAMPLERS:
        raise UserError(f"samples.sampler={cfg.samples.sampler}: expected one of {', '.join(sources.SAMPLERS)}")
    guidance, seeds, settings = cfg.samples.guidance, cfg.runs.seeds, cfg.runs.settings
    if type(guidance) not in (int, float) or guidance < 0:
        raise UserError(f"samples.guidance={guidance}: expected 0 or more; 1 is no guidance")
    if not isinstance(seeds, ListConfig) or any(type(seed) is not int or seed < 0 for seed in seeds):
        raise UserError(f"runs.seeds={seeds}: expected whole numbers, as in runs.seeds=[0,1]; [] makes no runs")
    if not isinstance(settings, ListConfig) or any("=" not in str(setting) for setting in settings):
        raise UserError(f"""runs.settings={settings}: expected settings, as in 'runs.settings=["method.views=4"]'""")


def score(judge: Judge, suite: Suite, found: dict[str, tuple[list[PictureSet], list[PictureSet]]]) -> dict[str, Any]:
    """Every figure by group and source, and the accuracies of samples and runs by prompt."""
    prompts = {prompt: suite.asked(prompt) for prompt in suite.prompts}
    judged = {name: (judge_all(judge, sets), judge_all(judge, reference)) for name, (sets, reference) in found.items()}
    groups = {"all": set(prompts)} | {
        group: {prompt for prompt in prompts if suite.group[prompt] == group} for group in suite.group.values()
    }
    figures = {
        group: {
            name: summary(judge, own, prompts, among(reference, inside))
            for name, (sets, reference) in judged.items()
            if (own := among(sets, inside))
        }
        for group, inside in groups.items()
    }
    made = {name: sets for name, (sets, _) in judged.items() if name in ("samples", "runs")}
    rows = {
        prompt: {name: accuracies(judge, own) for name, sets in made.items() if (own := among(sets, {prompt}))}
        for prompt in prompts
    }
    return {"figures": figures, "prompts": rows}


def among(judged: Judged, prompts: set[str]) -> Judged:
    return [(each, opinion) for each, opinion in judged if each.prompt in prompts]


def picture_sheet(sets: list[PictureSet], path: Path) -> None:
    """The first thing of each prompt from four sides, three prompts a row."""
    first = {each.prompt: each for each in reversed(sets)}
    cells = []
    for prompt in dict.fromkeys(each.prompt for each in sets):
        around = first[prompt].pictures[:AZIMUTHS:2]
        cells.append((prompt, list(on_white(around))))
    rows = [cells[start : start + 3] for start in range(0, len(cells), 3)]
    contact_sheet([(" | ".join(name for name, _ in row), [p for _, each in row for p in each]) for row in rows], path)
