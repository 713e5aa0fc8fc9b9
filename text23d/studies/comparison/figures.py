"""The figures of one variant: of its runs' pictures beside the world's, and of its runs' own notes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from text23d.engine.folder import METRICS
from text23d.judge.network import Asked, Judge
from text23d.studies.comparison.appearance import appearance
from text23d.studies.figures import Judged, summary
from text23d.studies.records import number, read_json_lines, reading
from text23d.studies.runs import MESH, mesh_fit

APPEARANCE = ("saturation", "contrast")


def figures(
    judge: Judge, judged: Judged, prompts: Mapping[str, Asked], world: Judged, folders: Sequence[Path] = ()
) -> dict[str, float]:
    """Every figure of `studies.figures.summary`, and besides:

    judge                   mean probability that a view shows all that was asked for, by the judge
    judge_error             its standard error over things, which are independent where views of one thing are not
    saturation, contrast    relative to the world's for the same prompts
    seconds, iterations, noise_ratio, residual   means over the runs in `folders`, as far as they are known
    roughness, genus, ... of MESH                means over those of them that have a mesh
    """
    found = summary(judge, judged, prompts, world)
    scores = [judge.log_likelihood(opinion, each.asked).exp().mean().item() for each, opinion in judged]
    found["judge"] = statistics.fmean(scores)
    if len(scores) > 1:
        found["judge_error"] = statistics.stdev(scores) / len(scores) ** 0.5
    same_prompts = [pair for pair in world if pair[0].prompt in {each.prompt for each, _ in judged}]
    own, natural = (appearance(torch.cat([each.pictures for each, _ in sets])) for sets in (judged, same_prompts))
    found |= {name: own[name] / natural[name] for name in APPEARANCE if natural[name] > 0 and own[name] >= 0}
    return found | run_means(folders) | mesh_means(folders)


def run_means(folders: Sequence[Path]) -> dict[str, float]:
    """Means over runs of what their metrics tell; what no run knows is left out. Raises UserError where they are
    damaged."""
    rows: dict[str, list[float]] = {}
    for folder in folders:
        lines = read_json_lines(folder / METRICS)
        with reading(folder / METRICS):
            rows.setdefault("seconds", []).append(sum(number(line, "seconds") for line in lines))
            rows.setdefault("iterations", []).append(len(lines))
            for name in ("noise_ratio", "residual"):
                if known := [number(line, name) for line in lines if line.get(name) is not None]:
                    rows.setdefault(name, []).append(statistics.fmean(known))
    return {name: statistics.fmean(values) for name, values in rows.items()}


def mesh_means(folders: Sequence[Path]) -> dict[str, float]:
    """Means of the MESH figures over the runs that have a mesh; empty where none has. Raises UserError where a summary
    is damaged."""
    fits = [fit for folder in folders if (fit := mesh_fit(folder))]
    return {name: statistics.fmean(fit[name] for fit in fits) for name in MESH} if fits else {}
