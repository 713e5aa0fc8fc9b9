"""Variants of a run x prompts x seeds at equal cost: their figures beside the world's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from text23d.errors import UserError
from text23d.files import write_json, write_text
from text23d.judge import network
from text23d.judge.network import Judge
from text23d.paths import slug
from text23d.settings import Count, Positive, Seed, checked
from text23d.studies.comparison.budget import Calibration, Cost, affordable
from text23d.studies.comparison.figures import figures
from text23d.studies.comparison.table import comparison_table, picture
from text23d.studies.evaluation.samples import renders
from text23d.studies.figures import Judged, judge_all
from text23d.studies.overrides import Override, check_overrides
from text23d.studies.records import Name, check_settings
from text23d.studies.runs import run_cameras, suite_runs
from text23d.studies.suite import Prompts, Suite, read_suite
from text23d.worlds.objects.world import Objects

WORLD_SEED, COMPARED_SEED = (Objects().splits[f"comparison_{name}"] for name in ("reference", "world"))
"""Of the world's renders that runs are compared with, and of those in the row of the world itself."""
WORLD = "the world itself"
QUICK = ("outputs=minimal", "stages=1")
"""What most lineups do not look at is not made."""


@dataclass(frozen=True)
class Lineup:
    """`conf/lineup/*.yaml`: a name, the settings of each variant, and those of all of them."""

    name: str
    variants: Annotated[dict[str, Any], Field(min_length=1, description="variants, as {sds: [method=sds]}")]
    settings: list[Override] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """`conf/compare.yaml`.

    budget       of a run, in seconds of its loop or evaluations of the network on one picture; null: not compared by it
    calibration  iterations that measure what one costs
    objects      of the world for each prompt
    workers      runs at a time, each on its share of the processor's cores
    settings     of all variants

    Raises UserError where one cannot be used.
    """

    folder: Name
    lineup: Lineup
    suite: Prompts
    seeds: Annotated[list[Seed], Field(min_length=1, description="whole numbers, as in seeds=[0,1]")]
    budget: Annotated[
        dict[Literal["seconds", "evaluations"], Positive | None],
        Field(description="seconds and evaluations, each a number above 0 or null"),
    ]
    calibration: Count
    objects: Count
    workers: Count
    settings: list[Override] = field(default_factory=list)
    device: str = "auto"
    judge: Name | None = None

    def __post_init__(self) -> None:
        if not self.budgets:
            raise UserError("no budget: give budget.seconds or budget.evaluations")
        check_overrides(self.settings, "settings")
        check_overrides(self.lineup.settings, "lineup.settings")
        for name, settings in self.variants().items():
            if slug(name) != name:
                raise UserError(f"lineup.variants.{name}: expected a name in small letters, digits and dashes")
            check_overrides(settings, f"lineup.variants.{name}")

    @property
    def budgets(self) -> dict[str, float]:
        """Those that are given."""
        return {by: budget for by, budget in self.budget.items() if budget is not None}

    def variants(self) -> dict[str, list[str]]:
        """What each variant sets beside what all set."""
        return {
            name: checked(settings, list[Override], f"lineup.variants.{name}")
            for name, settings in self.lineup.variants.items()
        }

    def overrides(self) -> dict[str, list[str]]:
        """All settings of each variant's runs but their number of iterations."""
        return {name: [*QUICK, *self.lineup.settings, *self.settings, *own] for name, own in self.variants().items()}


@dataclass
class Block:
    """The runs of one budget: by variant, what each showed the judge, and where they lie; and what failed."""

    by: str
    budget: float
    iterations: dict[str, int]
    missing: int
    failed: list[str]
    judged: dict[str, Judged] = field(default_factory=dict)
    folders: dict[str, list[Path]] = field(default_factory=dict)


def compare(settings: Comparison, say: Callable[[str], None]) -> dict[str, Any]:
    """Make what is missing in the folder, one variant and seed after the other, and with each write results.json,
    results.md and a picture a budget of what there is; `say` is told what comes next. Returns the results.

    Raises UserError for a judge and prompts that do not serve, before anything is made, and where the folder holds
    results of other settings.
    """
    judge = network.load(settings.judge)
    suite, seeds = read_suite(settings.suite, judge), list(dict.fromkeys(settings.seeds))
    overrides, folder = settings.overrides(), Path(settings.folder)
    measured = (suite.prompts[0], settings.calibration, settings.budgets.get("seconds"))
    costs, unknown = Calibration(folder / "costs", *measured, settings.workers, settings.device).costs(overrides)
    blocks = [
        Block(
            by,
            budget,
            iterations={name: affordable(cost, by, budget) for name, cost in costs.items()},
            missing=len(seeds) * len(costs) * len(suite.prompts),
            failed=list(unknown.values()),
        )
        for by, budget in settings.budgets.items()
    ]
    reference, world = (
        judge_all(judge, renders(suite, settings.objects, seed, run_cameras())) for seed in (WORLD_SEED, COMPARED_SEED)
    )
    board = Board(settings, suite, judge, costs, reference, world)
    results = board.write(blocks)
    for seed in seeds:  # all variants of one seed, then the next: a table half made compares already
        for block in blocks:
            for name in costs:
                say(f"{name}, seed {seed}, {block.iterations[name]} iterations")
                board.make(block, name, overrides[name], seed)
                results = board.write(blocks)
    return results


@dataclass(frozen=True)
class Board:
    """What all tables are made of. reference: the world as judged; world: others of its things."""

    settings: Comparison
    suite: Suite
    judge: Judge
    costs: Mapping[str, Cost]
    reference: Judged
    world: Judged

    def make(self, block: Block, name: str, overrides: Sequence[str], seed: int) -> None:
        """The runs of one variant and seed at this budget."""
        where = Path(self.settings.folder) / block.by / name
        own = [*overrides, f"method.iterations={block.iterations[name]}"]
        check_settings(where, {"settings": own})
        workers, device = self.settings.workers, self.settings.device
        sets, folders, failed = suite_runs(self.suite, where, [seed], workers, own, device)
        block.judged.setdefault(name, []).extend(judge_all(self.judge, sets))
        block.folders.setdefault(name, []).extend(folders)
        block.failed += [f"{name}: {each}" for each in failed]
        block.missing -= len(self.suite.prompts)

    def write(self, blocks: Sequence[Block]) -> dict[str, Any]:
        """The results so far, in the study's folder."""
        folder = Path(self.settings.folder)
        results = {
            "lineup": self.settings.lineup.name,
            "suite": self.suite.name,
            "date": time.strftime("%Y-%m-%d"),
            "variants": self.settings.variants(),
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "world": self.figures(self.world),
            "budgets": {block.by: self.block_results(block) for block in blocks},
        }
        write_json(folder / "results.json", results)
        write_text(folder / "results.md", comparison_table(results))
        for block in blocks:
            picture({WORLD: self.world, **block.judged}, self.suite.prompts, folder / f"{block.by}.png")
        return results

    def block_results(self, block: Block) -> dict[str, Any]:
        rows: dict[str, dict[str, float]] = {}
        for name, judged in block.judged.items():
            if judged:
                spent = block.iterations[name] * self.costs[name].evaluations
                rows[name] = self.figures(judged, block.folders[name]) | {"evaluations": spent, "runs": len(judged)}
        return {"budget": block.budget, "figures": rows, "missing": block.missing, "failed": block.failed}

    def figures(self, judged: Judged, folders: Sequence[Path] = ()) -> dict[str, float]:
        """Of pictures, beside the world's; see `comparison.figures`."""
        prompts = {prompt: self.suite.asked(prompt) for prompt in self.suite.prompts}
        return figures(self.judge, judged, prompts, self.reference, folders)
