"""python -m text23d.compare lineup=methods suite=quick: variants of a run x prompts x seeds at equal cost, in one table
and one picture. What is there already is not made again: the same command goes on."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("compare")  # which imports what follows once the command line is read

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from text23d.errors import UserError
from text23d.files import write_json, write_text
from text23d.judge import network
from text23d.judge.network import Asked, Judge
from text23d.paths import slug
from text23d.studies.comparison.budget import Cost, affordable, check_budgets, costs
from text23d.studies.comparison.figures import figures
from text23d.studies.comparison.table import comparison_table, picture
from text23d.studies.evaluation import sources
from text23d.studies.evaluation.figures import Judged, judge_all
from text23d.studies.evaluation.suite import Suite, read_suite

WORLD_SEED, COMPARED_SEED = 90_003, 90_004
"""Of the world's renders that runs are compared with, and of those in the row of the world itself."""
QUICK = ("outputs=minimal", "stages=1")
"""What no figure here looks at is not made."""


@dataclass
class Block:
    """The runs of one budget: by variant, what each showed the judge, and where they lie; and what failed."""

    by: str
    budget: float
    iterations: dict[str, int]
    judged: dict[str, Judged] = field(default_factory=dict)
    folders: dict[str, list[Path]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    missing: int = 0


def run(cfg: DictConfig) -> None:
    variants, budgets = check(cfg)
    judge, folder = network.load(cfg.judge), Path(cfg.folder)
    settings: dict[str, Any] = OmegaConf.to_container(cfg.suite)  # type: ignore[assignment]
    suite, seeds = read_suite(settings, judge), list(dict.fromkeys(cfg.seeds))
    asked = {name: [*QUICK, *map(str, cfg.settings), *own] for name, own in variants.items()}
    measure = (suite.prompts[0], cfg.calibration, cfg.workers, cfg.device, budgets.get("seconds"))
    known, unknown = costs(asked, folder / "costs", *measure)
    blocks = [
        Block(
            by,
            budget,
            {name: affordable(cost, by, budget) for name, cost in known.items()},
            failed=list(unknown.values()),
            missing=len(seeds) * len(known) * len(suite.prompts),
        )
        for by, budget in budgets.items()
    ]
    reference, world = (
        judge_all(judge, sources.worlds(suite, cfg.objects, seed, sources.run_views()))
        for seed in (WORLD_SEED, COMPARED_SEED)
    )
    comparison = Comparison(cfg, suite, judge, variants, known, reference, world)
    for seed in seeds:  # all variants of one seed, then the next: a table half made compares already
        for block in blocks:
            for name in known:
                comparison.make(block, name, asked[name], seed)
                results = comparison.write(blocks)
    print(comparison_table(results if known else comparison.write(blocks)), end="")


@dataclass(frozen=True)
class Comparison:
    """What all tables are made of. variants: what each sets beside what all set; reference: the world as judged;
    world: others of its things."""

    cfg: DictConfig
    suite: Suite
    judge: Judge
    variants: Mapping[str, Sequence[str]]
    costs: Mapping[str, Cost]
    reference: Judged
    world: Judged

    def make(self, block: Block, name: str, settings: Sequence[str], seed: int) -> None:
        """The runs of one variant and seed at this budget."""
        where = Path(self.cfg.folder) / block.by / name
        passed_on = [*settings, f"method.iterations={block.iterations[name]}"]
        sources.begun(where, {"settings": passed_on})
        print(f"text23d: {name}, seed {seed}, {block.iterations[name]} iterations", file=sys.stderr)
        made, failed = sources.runs(self.suite, where, [seed], self.cfg.workers, passed_on, self.cfg.device)
        block.judged.setdefault(name, []).extend(judge_all(self.judge, made))
        places = [sources.run_folder(where, each.prompt, seed) for each in made]
        block.folders.setdefault(name, []).extend(places)
        block.failed += [f"{name}: {each}" for each in failed]
        block.missing -= len(self.suite.prompts)

    def write(self, blocks: Sequence[Block]) -> dict[str, Any]:
        """results.json, results.md and a picture a budget, of what there is so far."""
        folder = Path(self.cfg.folder)
        prompts = {prompt: self.suite.asked(prompt) for prompt in self.suite.prompts}
        results = {
            "lineup": self.cfg.lineup.name,
            "suite": self.suite.name,
            "date": time.strftime("%Y-%m-%d"),
            "variants": self.variants,
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "world": figures(self.judge, self.world, prompts, self.reference),
            "budgets": {block.by: self.of(block, prompts) for block in blocks},
        }
        write_json(folder / "results.json", results)
        write_text(folder / "results.md", comparison_table(results))
        for block in blocks:
            shown = {"the world itself": self.world, **block.judged}
            picture(shown, self.suite.prompts, folder / f"{block.by}.png")
        return results

    def of(self, block: Block, prompts: Mapping[str, Asked]) -> dict[str, Any]:
        rows: dict[str, dict[str, float]] = {}
        for name, judged in block.judged.items():
            if judged:
                spent = block.iterations[name] * self.costs[name].evaluations
                rows[name] = figures(self.judge, judged, prompts, self.reference, block.folders[name])
                rows[name] |= {"evaluations": spent, "runs": len(judged)}
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
