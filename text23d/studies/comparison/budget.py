"""Equal cost: what an iteration of each variant costs here, and how many of them a budget buys."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import OmegaConf

from text23d.errors import UserError
from text23d.files import write_json
from text23d.studies.evaluation.sources import begun, make_run

BUDGETS = {"seconds": "equal wall-clock time", "evaluations": "equal network evaluations"}
WINDOW = 8
"""Iterations over which a run's cost is taken to be the same."""


@dataclass(frozen=True)
class Cost:
    """Of an iteration: seconds of the loop, and network evaluations, each on one picture."""

    seconds: float
    evaluations: float


def costs(
    variants: Mapping[str, Sequence[str]],
    folder: Path,
    prompt: str,
    iterations: int,
    workers: int,
    device: str,
    seconds: float | None = None,
) -> tuple[dict[str, Cost], dict[str, str]]:
    """The cost of each variant, by a run of so many iterations below `folder`, as many at a time as the comparison will
    have; and why it is not known of those whose run failed. What is known is noted there and not measured again.

    With a budget of `seconds`, by a second run, as long as that buys by the first: late iterations are cheaper, since
    the occupancy then leaves out most of space, and how many of a run are late depends on its length.
    """

    def measured(name: str, iterations: int, settings: Sequence[str]) -> Cost | str:
        where, passed_on = folder / name, [*settings, f"method.iterations={iterations}"]
        begun(where, {"settings": passed_on})
        note = where / "cost.json"
        if note.exists():
            return Cost(**json.loads(note.read_text()))
        (where / "metrics.jsonl").unlink(missing_ok=True)
        make_run(where, prompt, 0, passed_on, workers, device)
        if not (where / "summary.json").exists():
            return f"{name}: see {where / 'log.txt'}"
        cost = read_cost(where)
        write_json(note, asdict(cost))
        return cost

    def settled(item: tuple[str, Sequence[str]]) -> Cost | str:
        name, settings = item
        cost = measured(name, iterations, settings)
        if isinstance(cost, str) or seconds is None:
            return cost
        return measured(f"{name}-at-length", affordable(cost, "seconds", seconds), settings)

    with ThreadPoolExecutor(workers) as pool:
        found = dict(zip(variants, pool.map(settled, variants.items()), strict=True))
    known = {name: cost for name, cost in found.items() if isinstance(cost, Cost)}
    return known, {name: why for name, why in found.items() if isinstance(why, str)}


def read_cost(where: Path) -> Cost:
    """Of a finished run. Its time is the median of each WINDOW of iterations at one resolution, so that what the
    machine does for a moment beside it does not count. The first iteration also warms up, and is left out."""
    lines = [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
    views = OmegaConf.load(where / "config.yaml").method.views
    timed = list(enumerate(lines))[1:] or [(0, lines[0])]
    windows: dict[tuple[int, int], list[float]] = {}
    for index, line in timed:
        windows.setdefault((line["size"], index // WINDOW), []).append(line["seconds"])
    total = sum(len(window) * statistics.median(window) for window in windows.values())
    return Cost(total / len(timed), views * statistics.fmean(line["nfe"] for line in lines))


def affordable(cost: Cost, by: str, budget: float) -> int:
    """The iterations that `budget` buys, at least one."""
    return max(1, round(budget / getattr(cost, by)))


def check_budgets(budgets: Mapping[str, float | None]) -> dict[str, float]:
    """The budgets that are given. Raises UserError where one is no positive number, or none is given."""
    for by, budget in budgets.items():
        if by not in BUDGETS or not (budget is None or (type(budget) in (int, float) and budget > 0)):
            raise UserError(f"budget.{by}={budget}: expected {' and '.join(BUDGETS)}, each a number above 0 or null")
    given = {by: float(budget) for by, budget in budgets.items() if budget is not None}
    if not given:
        raise UserError("no budget: give budget.seconds or budget.evaluations")
    return given
