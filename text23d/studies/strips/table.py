"""The study as markdown, CSV and one picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from text23d.artifact.media import contact_sheet, on_white, upscale
from text23d.studies.markdown import number, table
from text23d.studies.strips.made import Made
from text23d.studies.strips.media import MEDIA

JUDGED = {"asked": "all that is asked", "regions": "regions right"}
SHARED = {"coherence": "coherence", "kid": "KID", "kid_prior": "the prior's own", "kid_ratio": "ratio"}
COSTS = {"evaluations": "evaluations", "seconds": "seconds", "runs": "runs"}
GROWTH = {"times": "times", "length": "length", "windows": "windows", "seconds": "s / iteration", "memory": "MB"}
PLURAL = {"panorama": "panoramas", "video": "videos", "audio": "sounds"}
WIDEST = 640
"""Pixels of a picture's longer side."""


def titles(medium: str) -> dict[str, str]:
    """Of all figures of a medium, by name."""
    heads = {head.name: f"{head.name} right" for head in MEDIA[medium].world.heads}
    return {**heads, **JUDGED, **MEDIA[medium].columns, **SHARED, **COSTS}


def strips_table(results: Mapping[str, Any]) -> str:
    """The results as markdown."""
    rows, said = results["figures"], titles(results["medium"])
    present = [name for name in said if any(name in row for row in rows.values())]
    cells = (
        [name, *(number(row.get(column), 0 if column in COSTS else 3) for column in present)]
        for name, row in rows.items()
    )
    lines = [
        f"# Ways of making {PLURAL[results['medium']]}, {results['date']}",
        "",
        f"{results['evaluations']:g} evaluations of the network on one window for each run.",
        "",
        *table(["variant", *(said[name] for name in present)], cells),
        "",
    ]
    if results["growth"]:
        lines += ["## Time and memory against length", "", *growth_table(results["growth"]), ""]
    lines += [f"- failed: {each}" for each in results["failed"]]
    lines += [f"- {name}: `{' '.join(own) or 'the defaults'}`" for name, own in results["variants"].items()]
    return "\n".join(lines) + "\n"


def growth_table(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """The lines of a table of `growth.grown`."""
    present = [name for name in GROWTH if any(name in row for row in rows)]
    digits = {"seconds": 3}
    cells = ([number(row.get(name), digits.get(name, 0)) for name in present] for row in rows)
    return table([GROWTH[name] for name in present], cells)


def strips_csv(results: Mapping[str, Any]) -> str:
    """The figures, a line for each variant."""
    names = [name for name in titles(results["medium"]) if any(name in row for row in results["figures"].values())]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["variant", *names], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"variant": name, **row} for name, row in results["figures"].items())
    return text.getvalue()


def picture(shown: Mapping[str, Sequence[Made]], path: Path) -> None:
    """What each variant made, as its runs' contact sheets show it, those of one title together, WIDEST at most."""
    rows = [
        (f"{name}: {made.title}", [fitted(each) for each in on_white(made.task.preview(made.phi))])
        for name, several in shown.items()
        for made in several
    ]
    if rows:
        contact_sheet(sorted(rows, key=lambda row: row[0].partition(": ")[2]), path)


def fitted(picture: np.ndarray) -> np.ndarray:
    """A picture [H, W, 3], made smaller where a side is longer than WIDEST."""
    return upscale(picture, WIDEST) if max(picture.shape[:2]) > WIDEST else picture
