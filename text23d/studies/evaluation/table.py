"""The results as markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from text23d.studies.markdown import number, table

HEADINGS = {
    "kind": "kind right",
    "kind_probability": "P(kind)",
    "colour": "colour right",
    "colour_probability": "P(colour)",
    "both": "kind and colour",
    "part": "part's colour",
    "part_probability": "P(part)",
    "r_precision": "R-precision",
    "azimuth": "azimuth",
    "janus": "Janus rate",
    "consistency": "consistency",
    "diversity": "diversity",
    "kid": "KID",
}
SOURCES = {
    "samples": "samples of the prior",
    "runs": "3-D runs",
    "world": "the world itself (ceiling)",
    "world_corrupted": "the world, blurred (ceiling)",
}
GROUPS = {"all": "all", "plain": "plain", "parts": "part attributes", "held_out": "held-out combinations"}


def results_table(results: Mapping[str, Any]) -> str:
    """All figures, by source and group, then kind, colour, parts and the mesh's fit by prompt."""
    about = results["about"]
    clean, corrupted = (percentages(about["judge"][name]) for name in ("clean", "corrupted"))
    lines = [
        f"# Evaluation, suite `{results['suite']}`, {about['date']}",
        "",
        f"Prior: {about['images']} images seen. The judge itself is right on unseen objects in "
        f"{clean}; on blurred, moved and noisy ones in {corrupted}.",
        "",
    ]
    if results["failed"]:
        lines += [f"Without {len(results['failed'])} 3-D runs that failed.", ""]
    for group, figures in results["figures"].items():
        present = [name for name in HEADINGS if any(name in row for row in figures.values())]
        rows = [[SOURCES[source], *(number(row.get(name)) for name in present)] for source, row in figures.items()]
        titles = ["source", *(HEADINGS[name] for name in present)]
        lines += [f"## {GROUPS.get(group, group)}", "", *table(titles, rows), ""]
    lines += ["## By prompt", "", *by_prompt(results["prompts"])]
    return "\n".join(lines) + "\n"


def by_prompt(prompts: Mapping[str, Any]) -> list[str]:
    """A row for each prompt: the accuracies of its samples and runs, and the fit of its meshes."""
    sources = [source for source in SOURCES if any(source in row for row in prompts.values())]
    columns = [(source, name) for source in sources for name in ("kind", "colour", "part")]
    titles = [f"{'2-D' if source == 'samples' else '3-D'} {HEADINGS[name]}" for source, name in columns]
    if any("mesh" in row for row in prompts.values()):
        columns += [("mesh", "iou"), ("mesh", "psnr")]
        titles += ["mesh: silhouette IoU", "mesh: colour PSNR, dB"]
    rows = [
        [prompt, *(number(row.get(source, {}).get(name)) for source, name in columns)]
        for prompt, row in prompts.items()
    ]
    return table(["prompt", *titles], rows)


def percentages(accuracy: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.1f} %" for name, value in accuracy.items())
