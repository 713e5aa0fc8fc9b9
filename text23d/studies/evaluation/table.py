"""The results as markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from text23d.studies.markdown import number, table
from text23d.studies.runs import MESH

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
BY_PROMPT = {"samples": "samples", "runs": "3-D runs", "world": "the world's own"}
"""Sources whose figures are told by prompt."""
SHORT = ("kind", "colour", "part", "janus", "kid")
"""The figures that they are told of."""
GROUPS = {"all": "all", "plain": "plain", "parts": "part attributes", "held_out": "held-out combinations"}


def results_table(results: Mapping[str, Any]) -> str:
    """The aims, all figures by source and group, some of them by prompt, and the meshes."""
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
    lines += ["## Aims", "", *aims_table(results["aims"]), ""]
    for group, figures in results["figures"].items():
        present = [name for name in HEADINGS if any(name in row for row in figures.values())]
        rows = [[SOURCES[source], *(number(row.get(name)) for name in present)] for source, row in figures.items()]
        titles = ["source", *(HEADINGS[name] for name in present)]
        lines += [f"## {GROUPS.get(group, group)}", "", *table(titles, rows), ""]
    lines += ["## By prompt", "", *by_prompt(results["prompts"])]
    if results["meshes"]:
        lines += ["", "## Meshes", "", *meshes_table(results["meshes"]["runs"], results["meshes"]["world"])]
    return "\n".join(lines) + "\n"


def aims_table(aims: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row for each aim."""
    rows = [
        [each["what"], each["own"], each["world"], each["aim"], "yes" if each["reached"] else "no"] for each in aims
    ]
    return table(["figure", "results", "the world's own", "aim", "reached"], rows)


def by_prompt(prompts: Mapping[str, Any]) -> list[str]:
    """A row for each prompt: the figures of its samples, its runs and the world's own objects."""
    sources = [source for source in BY_PROMPT if any(source in row for row in prompts.values())]

    def cell(row: Mapping[str, Any], name: str) -> str:
        return " / ".join(number(row.get(source, {}).get(name)) for source in sources)

    rows = [[prompt, *(cell(row, name) for name in SHORT)] for prompt, row in prompts.items()]
    return table([" / ".join(BY_PROMPT[source] for source in sources), *(HEADINGS[name] for name in SHORT)], rows)


def meshes_table(
    runs: Mapping[str, Sequence[Mapping[str, float]]], world: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """The means over the prompts that have meshes, and each prompt's: of the runs' meshes, over their seeds, and,
    behind a stroke, of the world's own object meshed and seen in the same way."""
    own = {prompt: {name: fmean(fit[name] for fit in fits) for name in MESH} for prompt, fits in runs.items()}

    def cells(of: Mapping[str, float], other: Mapping[str, float], genus: str) -> list[str]:
        pairs = {name: f"{number(of[name], 2)} / {number(other[name], 2)}" for name in MESH}
        return list((pairs | {"genus": f"{number(of['genus'], 2)} / {genus}"}).values())

    def genera(fit: Mapping[str, float]) -> str:
        return " to ".join(f"{each:g}" for each in dict.fromkeys((fit["genus_least"], fit["genus_most"])))

    rows = [[prompt, *cells(own[prompt], world[prompt], genera(world[prompt]))] for prompt in own]
    if own:
        mean, worlds = ({name: fmean(of[prompt][name] for prompt in own) for name in MESH} for of in (own, world))
        rows.insert(0, ["mean", *cells(mean, worlds, number(worlds["genus"], 2))])
    return table(["3-D runs / the world's own", *MESH.values()], rows)


def percentages(accuracy: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.1f} %" for name, value in accuracy.items())
