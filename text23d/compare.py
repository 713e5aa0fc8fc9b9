"""python -m text23d.compare lineup=methods suite=quick: variants of a run x prompts x seeds at equal cost, in one table
and one picture. What is there already is not made again: the same command goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from text23d import cli
from text23d.comparison.budget import Cost, affordable, check_budgets, costs
from text23d.comparison.figures import figures
from text23d.comparison.table import comparison_table, picture
from text23d.contracts import UserError
from text23d.evaluation import sources
from text23d.evaluation.figures import Judged, PictureSet, judge_all
from text23d.evaluation.suite import Suite, read_suite
from text23d.files import write_json, write_text
from text23d.judge import network
from text23d.judge.network import Judge
from text23d.paths import slug

WORLD_SEED, COMPARED_SEED = 90_003, 90_004
"""Of the world's renders that runs are compared with, and of those in the row of the world itself."""
QUICK = ("outputs=field", "stages=1")
"""What no figure here looks at is not made."""


@dataclass
class Block:
    """The runs of one budget: by variant, what each run showed, where they lie, and what failed."""

    by: str
    budget: float
    iterations: dict[str, int]
    sets: dict[str, list[PictureSet]] = field(default_factory=dict)
    folders: dict[str, list[Path]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    missing: int = 0


def run(cfg: DictConfig) -> None:
    folder, variants, budgets = Path(cfg.folder), *check(cfg)
    judge = network.load(cfg.judge)
    settings: dict[str, Any] = OmegaConf.to_container(cfg.suite)  # type: ignore[assignment]
    suite, seeds = read_suite(settings, judge), list(dict.fromkeys(cfg.seeds))
    common = [*QUICK, *map(str, cfg.settings)]
    asked = {name: [*common, *own] for name, own in variants.items()}
    sources.begun(folder / "costs", {"variants": asked, "iterations": cfg.calibration})
    known, unknown = costs(asked, folder / "costs", suite.prompts[0], cfg.calibration, cfg.workers, cfg.device)
    blocks = [
        Block(by, budget, {name: affordable(cost, by, budget) for name, cost in known.items()})
        for by, budget in budgets.items()
    ]
    for block in blocks:
        block.failed = list(unknown.values())
        block.missing = len(seeds) * len(known) * len(suite.prompts)
    worlds = [sources.worlds(suite, cfg.objects, seed, sources.run_views()) for seed in (WORLD_SEED, COMPARED_SEED)]
    report = Report(cfg.lineup.name, suite, judge, variants, known, judge_all(judge, worlds[0]), worlds[1], folder)
    for seed in seeds:  # all variants of one seed, then the next: a table half made compares already
        for block in blocks:
            for name, own in asked.items():
                if name in known:
                    make(block, name, own, suite, seed, folder, cfg)
                    report.write(blocks)
    print(comparison_table(report.write(blocks)), file=sys.stdout)


def make(
    block: Block, name: str, settings: Sequence[str], suite: Suite, seed: int, folder: Path, cfg: DictConfig
) -> None:
    """The runs of one variant and seed at this budget."""
    where, passed_on = folder / block.by / name, [*settings, f"method.iterations={block.iterations[name]}"]
    sources.begun(where, {"settings": passed_on})
    print(f"text23d: {name}, seed {seed}, {block.iterations[name]} iterations", file=sys.stderr)
    made, failed = sources.runs(suite, where, [seed], cfg.workers, passed_on, cfg.device)
    block.sets.setdefault(name, []).extend(made)
    places = [sources.run_folder(where, each.prompt, seed) for each in made]
    block.folders.setdefault(name, []).extend(places)
    block.failed += [f"{name}: {each}" for each in failed]
    block.missing -= len(suite.prompts)


@dataclass(frozen=True)
class Report:
    """What every table of this comparison is made of beside its runs. reference: the world as judged; world: others of
    its things."""

    lineup: str
    suite: Suite
    judge: Judge
    variants: Mapping[str, Sequence[str]]
    costs: Mapping[str, Cost]
    reference: Judged
    world: list[PictureSet]
    folder: Path

    def write(self, blocks: Sequence[Block]) -> dict[str, Any]:
        """results.json, results.md and a picture a budget, of what there is so far."""
        prompts = {prompt: self.suite.asked(prompt) for prompt in self.suite.prompts}
        results = {
            "lineup": self.lineup,
            "suite": self.suite.name,
            "date": time.strftime("%Y-%m-%d"),
            "variants": self.variants,
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "world": figures(self.judge, judge_all(self.judge, self.world), prompts, self.reference),
            "budgets": {block.by: self.of(block, prompts) for block in blocks},
        }
        write_json(self.folder / "results.json", results)
        write_text(self.folder / "results.md", comparison_table(results))
        for block in blocks:
            picture({"the world itself": self.world, **block.sets}, self.suite.prompts, self.folder / f"{block.by}.png")
        return results

    def of(self, block: Block, prompts: Mapping[str, Any]) -> dict[str, Any]:
        rows: dict[str, dict[str, float]] = {}
        for name, sets in block.sets.items():
            if sets:
                judged, spent = judge_all(self.judge, sets), block.iterations[name] * self.costs[name].evaluations
                rows[name] = figures(self.judge, judged, prompts, self.reference, block.folders[name])
                rows[name] |= {"evaluations": spent, "runs": len(sets)}
        return {"budget": block.budget, "figures": rows, "missing": block.missing, "failed": block.failed}


def check(cfg: DictConfig) -> tuple[dict[str, list[str]], dict[str, float]]:
    """The variants' settings and the budgets. Raises UserError for settings out of range."""
    for name in ("workers", "calibration", "objects"):
        if type(cfg[name]) is not int or cfg[name] < 1:
            raise UserError(f"{name}={cfg[name]}: expected a whole number, at least 1")
    if not isinstance(cfg.seeds, ListConfig) or not cfg.seeds or any(type(s) is not int or s < 0 for s in cfg.seeds):
        raise UserError(f"seeds={cfg.seeds}: expected whole numbers, as in seeds=[0,1]")
    plain: Any = OmegaConf.to_container(cfg)
    variants = plain["lineup"]["variants"]
    for name, settings in [*variants.items(), ("settings", plain["settings"])]:
        if not isinstance(settings, list) or any("=" not in str(each) for each in settings) or slug(name) != name:
            raise UserError(f"{name}: {settings}: expected a name in small letters, and settings as in [method=sds]")
    return variants, check_budgets(plain["budget"])


if __name__ == "__main__":
    cli.main(run, "compare")
