"""The results as markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    "world_worn": "the world, blurred (ceiling)",
}
GROUPS = {"all": "all", "plain": "plain", "parts": "part attributes", "held_out": "held-out combinations"}


def results_table(results: Mapping[str, Any]) -> str:
    """All figures, by source and group, then kind, colour, parts and the mesh's fit by prompt."""
    about = results["about"]
    lines = [
        f"# Evaluation, suite `{results['suite']}`, {about['date']}",
        "",
        f"Prior: {about['images']} images seen. The judge itself is right on unseen objects in "
        f"{spoken(about['judge']['clean'])}; on blurred, moved and noisy ones in "
        f"{spoken(about['judge']['corrupted'])}.",
        "",
    ]
    if results["failed"]:
        lines += [f"Without {len(results['failed'])} 3-D runs that failed.", ""]
    for group, figures in results["figures"].items():
        present = [name for name in HEADINGS if any(name in row for row in figures.values())]
        lines += [f"## {GROUPS.get(group, group)}", "", "| source | " + " | ".join(HEADINGS[n] for n in present) + " |"]
        lines.append("|---" * (len(present) + 1) + "|")
        for source, row in figures.items():
            lines.append(f"| {SOURCES[source]} | " + " | ".join(number(row.get(name)) for name in present) + " |")
        lines.append("")
    sources = [source for source in SOURCES if any(source in row for row in results["prompts"].values())]
    columns = [(source, name) for source in sources for name in ("kind", "colour", "part")]
    titles = [f"{'2-D' if source == 'samples' else '3-D'} {HEADINGS[name]}" for source, name in columns]
    if any("mesh" in row for row in results["prompts"].values()):
        columns += [("mesh", "iou"), ("mesh", "psnr")]
        titles += ["mesh: silhouette IoU", "mesh: colour PSNR, dB"]
    lines += ["## By prompt", "", "| prompt | " + " | ".join(titles) + " |", "|---" * (len(columns) + 1) + "|"]
    for prompt, row in results["prompts"].items():
        lines.append(f"| {prompt} | " + " | ".join(number(row.get(s, {}).get(name)) for s, name in columns) + " |")
    return "\n".join(lines) + "\n"


def spoken(accuracy: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.1f} %" for name, value in accuracy.items())


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
