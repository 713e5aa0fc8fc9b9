"""python -m text23d.gallery runs=<folder>: one table and one picture of all finished runs below a folder."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("gallery")  # which imports what follows once the command line is read

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from text23d.artifact.media import contact_sheet, on_white, read_frames, upscale
from text23d.errors import UserError
from text23d.files import write_json, write_text
from text23d.pictures import read_picture
from text23d.tasks.picture import IMAGE

SCORES = {
    "kind_accuracy": "kind right",
    "kind_probability": "P(kind)",
    "colour_accuracy": "colour right",
    "colour_probability": "P(colour)",
    "part_accuracy": "part's colour right",
    "part_probability": "P(part's colour)",
}


def run(cfg: DictConfig) -> None:
    if min(cfg.views, cfg.columns, cfg.size) < 1:
        raise UserError(f"views={cfg.views}, columns={cfg.columns}, size={cfg.size}: each must be at least 1")
    folder, out = Path(cfg.runs), Path(cfg.out or cfg.runs)
    found = sorted(folder.rglob("summary.json"))
    if not found:
        raise UserError(f"no finished run below {folder}: expected folders with a summary.json; check runs=")
    runs = sorted(((path.parent, read_summary(path)) for path in found), key=lambda r: (r[1]["prompt"], r[1]["seed"]))
    cells = [(summary["prompt"], pictures(where, cfg.views, cfg.size)) for where, summary in runs]
    most = max(len(each) for _, each in cells)
    cells = [(name, [*each, *[np.full_like(each[0], 255)] * (most - len(each))]) for name, each in cells]
    rows = [cells[start : start + cfg.columns] for start in range(0, len(cells), cfg.columns)]
    lines = [(" | ".join(name for name, _ in row), [p for _, each in row for p in each]) for row in rows]
    contact_sheet(lines, out / "gallery.png")
    summaries = [summary for _, summary in runs]
    write_json(out / "gallery.json", {"mean": means(summaries), "runs": summaries})
    write_text(out / "gallery.md", table(summaries))
    print(table(summaries), file=sys.stdout)


def read_summary(path: Path) -> dict[str, Any]:
    """A run's summary.json. Raises UserError where it is damaged."""
    try:
        summary: dict[str, Any] = json.loads(path.read_text())
        summary["prompt"], summary["seed"], summary["seconds"]["total"], summary["score"]
        summary["mesh"]["faces"] if "mesh" in summary else summary["image"]["file"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged or of another kind: remove it or repeat its run") from error
    return summary


def pictures(where: Path, views: int, size: int) -> list[np.ndarray]:
    """Views of a run, evenly round its turntable; or the one picture that it made."""
    if (where / IMAGE).is_file():
        return [upscale(on_white(read_picture(where / IMAGE, "picture")[None])[0], size)]
    frames = read_frames(where / "turntable.mp4")
    return [upscale(frames[index * len(frames) // views], size) for index in range(views)]


def means(summaries: list[dict[str, Any]]) -> dict[str, float]:
    """Each score, the seconds and the peak memory, averaged over the runs that have it."""
    columns = {name: [s["score"][name] for s in summaries if s["score"] and name in s["score"]] for name in SCORES}
    columns["seconds"] = [s["seconds"]["total"] for s in summaries]
    columns["peak_memory_mb"] = [s["peak_memory_mb"] for s in summaries]
    return {name: sum(values) / len(values) for name, values in columns.items() if values}


def table(summaries: list[dict[str, Any]]) -> str:
    """A row for each run and one for the means, as markdown. Scores are shares of a run's views, or mean probabilities;
    those that no run has are left out."""
    mean = means(summaries)
    names = [name for name in SCORES if name in mean]
    titles = ["prompt", "seed", *(SCORES[name] for name in names), "seconds", "peak MB", "faces"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for s in summaries:
        scores = [number((s["score"] or {}).get(name)) for name in names]
        cost = [
            f"{s['seconds']['total']:.0f}",
            f"{s['peak_memory_mb']:.0f}",
            str(s["mesh"]["faces"]) if "mesh" in s else "-",
        ]
        lines.append("| " + " | ".join([s["prompt"], str(s["seed"]), *scores, *cost]) + " |")
    scores = [number(mean[name]) for name in names]
    cost = [f"{mean['seconds']:.0f}", f"{mean['peak_memory_mb']:.0f}", ""]
    lines.append("| " + " | ".join([f"**mean of {len(summaries)}**", "", *scores, *cost]) + " |")
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
