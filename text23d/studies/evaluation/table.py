"""The results as markdown."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
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
MESHES = {
    "roughness": "roughness, degrees",
    "genus": "genus",
    "bodies": "bodies",
    "half_covered": "half-covered pixels",
    "iou": "silhouette IoU",
    "psnr": "colour PSNR, dB",
}
GROUPS = {"all": "all", "plain": "plain", "parts": "part attributes", "held_out": "held-out combinations"}


def results_table(results: Mapping[str, Any]) -> str:
    """All figures, by source and group, then kind, colour and parts by prompt, then the meshes."""
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
    if results["meshes"]:
        lines += ["", "## Meshes", "", *meshes_table(results["meshes"]["runs"], results["meshes"]["world"])]
    return "\n".join(lines) + "\n"


def by_prompt(prompts: Mapping[str, Any]) -> list[str]:
    """A row for each prompt: the accuracies of its samples and runs."""
    sources = [source for source in SOURCES if any(source in row for row in prompts.values())]
    columns = [(source, name) for source in sources for name in ("kind", "colour", "part")]
    titles = [f"{'2-D' if source == 'samples' else '3-D'} {HEADINGS[name]}" for source, name in columns]
    rows = [
        [prompt, *(number(row.get(source, {}).get(name)) for source, name in columns)]
        for prompt, row in prompts.items()
    ]
    return table(["prompt", *titles], rows)


def meshes_table(runs: Mapping[str, Mapping[str, float]], world: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The means over the prompts that have both, and each prompt's: of the runs' meshes and, behind a stroke, of the
    world's own object meshed and seen in the same way."""
    both = [prompt for prompt in runs if prompt in world]

    def cells(own: Mapping[str, float], other: Mapping[str, float]) -> list[str]:
        return [" / ".join(number(each[name], 2) for each in (own, other) if name in each) for name in MESHES]

    rows = [[prompt, *cells(runs[prompt], world[prompt])] for prompt in both]
    if both:
        means = ({name: fmean(of[prompt][name] for prompt in both) for name in of[both[0]]} for of in (runs, world))
        rows.insert(0, ["mean", *cells(*means)])
    return table(["3-D runs / the world's own", *MESHES.values()], rows)


def percentages(accuracy: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.1f} %" for name, value in accuracy.items())
