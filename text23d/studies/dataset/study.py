"""A dataset: one run for each prompt, then the posed views of each, the shards, the card and a picture of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from text23d.engine.folder import CONFIG, SUMMARY, claimed
from text23d.engine.resume import read_config
from text23d.engine.saved import read_nerf
from text23d.errors import UserError
from text23d.quoting import quoted
from text23d.studies.dataset.card import write_card, write_sheet
from text23d.studies.dataset.plan import Plan, Thing
from text23d.studies.dataset.scene import is_made, make_scene
from text23d.studies.dataset.shards import write_shards
from text23d.studies.launcher import Job
from text23d.studies.runs import make_missing
from text23d.studies.sweep import RESUME


def make_dataset(plan: Plan, device: torch.device) -> dict[str, Any]:
    """Make what is missing in the plan's folder. Returns how many "objects" and "shards" there are, and a line for each
    object that "failed", without which all the others are made.

    Raises UserError, before anything is made, where the folder holds another dataset, where another process is making
    it, or where `runs.reuse` is no folder; and where a file cannot be written: the same command goes on from there.
    """
    reusable = finished_runs(plan.runs.reuse)
    with claimed(plan.root):
        plan.claim()
        missing = [thing for thing in plan.things if not is_made(plan, thing)]
        failed = make_objects(plan, missing, reusable, device)
        made = [thing for thing in plan.things if is_made(plan, thing)]
        if not made:
            return {"objects": 0, "shards": 0, "failed": failed}
        shards = {} if plan.shards is None else write_shards(plan, plan.shards, made)
        write_card(plan, made, shards, failed)
        write_sheet(plan, made)
    return {"objects": len(made), "shards": sum(map(len, shards.values())), "failed": failed}


def make_objects(
    plan: Plan, missing: Sequence[Thing], reusable: Mapping[tuple[str, int], Path], device: torch.device
) -> list[str]:
    """Make these objects, of finished runs where there are any; a line for each that could not be made."""
    own = [thing for thing in missing if (thing.prompt, thing.seed) not in reusable]
    jobs = {
        thing: Job(
            (f"prompt={quoted(thing.prompt)}", f"seed={thing.seed}", *plan.overrides, RESUME),
            plan.root / "runs" / thing.name,
        )
        for thing in own
    }
    outcomes = make_missing(list(jobs.values()), plan.runs.workers, plan.device)
    failures = {thing: outcome.failure for thing, outcome in zip(own, outcomes, strict=True)}
    failed = []
    for number, thing in enumerate(missing, 1):
        run = jobs[thing].folder if thing in jobs else reusable[thing.prompt, thing.seed]
        try:
            if failure := failures.get(thing):
                raise UserError(failure)
            nerf = read_nerf(run, device)
        except UserError as error:
            failed.append(f"{thing.prompt!r} with seed {thing.seed} failed: {error}")
        else:
            make_scene(plan, thing, run, nerf, f"{number} of {len(missing)}")
    return failed


def finished_runs(folder: str | None) -> dict[tuple[str, int], Path]:
    """The finished runs below a folder by prompt and seed, the first of those that have the same. Raises UserError
    where there is none."""
    if folder is None:
        return {}
    found: dict[tuple[str, int], Path] = {}
    for path in sorted(Path(folder).rglob(CONFIG)):
        if (path.parent / SUMMARY).is_file():
            try:
                cfg = read_config(path.parent)
            except UserError:
                continue  # damaged: not one to take
            found.setdefault((str(cfg.get("prompt")), cfg.get("seed", 0)), path.parent)
    if not found:
        raise UserError(f"runs.reuse={folder}: no finished run below it; expected a folder of runs, or null")
    return found
