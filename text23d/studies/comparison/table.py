"""The comparison as markdown, and as a picture of methods x prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from text23d.artifact.media import WHITE, composite_on, contact_sheet
from text23d.spaces import from_picture
from text23d.studies.comparison.budget import BUDGETS
from text23d.studies.figures import Judged, PictureSet
from text23d.studies.markdown import number, table
from text23d.studies.runs import MESH

COLUMNS = {
    "judge": "judge",
    "kind": "kind right",
    "colour": "colour right",
    "part": "part's colour",
    "kind_probability": "P(kind)",
    "colour_probability": "P(colour)",
    "r_precision": "R-precision",
    "janus": "Janus rate",
    "kid": "KID",
    "saturation": "saturation",
    "contrast": "contrast",
    "diversity": "diversity",
    **MESH,
    "noise_ratio": "noise ratio",
    "residual": "residual",
    "evaluations": "evaluations",
    "seconds": "seconds",
    "iterations": "iterations",
    "runs": "runs",
}
WHOLE = {"evaluations", "iterations", "runs"}
SIDES = [1, 5]
"""Of the judged views, those that are shown: from the front's right, and from behind it."""


def comparison_table(results: Mapping[str, Any]) -> str:
    """One table a budget: the variants' rows under the world's own."""
    lines = [f"# Comparison `{results['lineup']}`, suite `{results['suite']}`, {results['date']}", ""]
    for by, block in results["budgets"].items():
        rows = {"the world itself": results["world"], **block["figures"]}
        present = [name for name in COLUMNS if any(name in row for row in rows.values())]
        lines += [
            f"## {BUDGETS[by]}: {block['budget']:g} {by} a run",
            "",
            *table(
                ["variant", *(COLUMNS[name] for name in present)],
                ([name, *(cell(row, column) for column in present)] for name, row in rows.items()),
            ),
            "",
        ]
        if block["missing"]:
            lines += [f"{block['missing']} runs are not made yet.", ""]
        if block["failed"]:
            lines += ["Failed:", "", *(f"- {each}" for each in block["failed"]), ""]
    lines += [
        "judge: mean probability that a view shows all that was asked for, with its standard error over things. "
        "Saturation, contrast and diversity between seeds: relative to the world's own. Evaluations: of the network, "
        "on one picture, a backward pass as 2. Seconds: of the loop.",
        "",
        *(f"- {name}: `{' '.join(settings) or 'the defaults'}`" for name, settings in results["variants"].items()),
    ]
    return "\n".join(lines) + "\n"


def cell(row: Mapping[str, float], name: str) -> str:
    digits = 0 if name in WHOLE else 1 if name == "seconds" else 3
    error = f" ± {row['judge_error']:.3f}" if name == "judge" and "judge_error" in row else ""
    return number(row.get(name), digits) + error


def picture(rows: Mapping[str, Judged], prompts: Sequence[str], path: Path) -> None:
    """Rows of variants, columns of prompts: the first thing of each from two sides; white where it is not made yet."""
    sheet = []
    for name, judged in rows.items():
        first = {each.prompt: each for each, _ in reversed(judged)}
        sheet.append((name, [two_sides(first[prompt]) if prompt in first else blank() for prompt in prompts]))
    contact_sheet(sheet, path, prompts)


def two_sides(each: PictureSet) -> np.ndarray:
    """Side by side, uint8 [64, 128, 3]."""
    return np.concatenate(list(composite_on(WHITE, *from_picture(each.pictures[SIDES]))), 1)


def blank() -> np.ndarray:
    return np.full((64, 128, 3), 255, np.uint8)
