"""The figures of one variant: of its runs' pictures beside the world's, and of its runs' own notes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from text23d.judge.network import Asked, Judge
from text23d.studies.comparison.appearance import appearance
from text23d.studies.evaluation.figures import Judged, summary

APPEARANCE = ("saturation", "contrast")


def figures(
    judge: Judge, judged: Judged, prompts: Mapping[str, Asked], world: Judged, folders: Sequence[Path] = ()
) -> dict[str, float]:
    """Every figure of `evaluation.figures.summary`, and besides:

    judge                   mean probability that a view shows all that was asked for, by the judge
    judge_error             its standard error over things, which are independent where views of one thing are not
    saturation, contrast    relative to the world's for the same prompts
    seconds, iterations, noise_ratio, residual   means over the runs in `folders`, as far as they are known
    """
    found = summary(judge, judged, prompts, world)
    scores = [judge.log_likelihood(opinion, each.asked).exp().mean().item() for each, opinion in judged]
    found["judge"] = statistics.fmean(scores)
    if len(scores) > 1:
        found["judge_error"] = statistics.stdev(scores) / len(scores) ** 0.5
    asked_for = {each.prompt for each, _ in judged}
    own, natural = (
        appearance(torch.cat([each.pictures for each, _ in sets]))
        for sets in (judged, [pair for pair in world if pair[0].prompt in asked_for])
    )
    found |= {name: own[name] / natural[name] for name in APPEARANCE}
    return found | notes(folders)


def notes(folders: Sequence[Path]) -> dict[str, float]:
    """Means over runs of what they noted of themselves; what no run knows is left out."""
    rows: dict[str, list[float]] = {}
    for folder in folders:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        told = {"seconds": sum(line["seconds"] for line in lines), "iterations": len(lines)}
        for name in ("noise_ratio", "residual"):
            known = [line[name] for line in lines if line[name] is not None]
            told |= {name: statistics.fmean(known)} if known else {}
        for name, value in told.items():
            rows.setdefault(name, []).append(value)
    return {name: statistics.fmean(values) for name, values in rows.items()}
