"""A table a medium and one picture of all finished runs below a folder; what is damaged is left out, and named."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np

from text23d.artifact.media import GAP, contact_sheet, on_white, read_frames, upscale
from text23d.cameras import orbit
from text23d.engine.saved import IMAGE as IMAGE_WEIGHTS
from text23d.engine.saved import NERF, read_image, read_nerf
from text23d.errors import UserError
from text23d.files import atomic, plain, read_json, write_json, write_text
from text23d.paths import slug
from text23d.pictures import read_picture
from text23d.representation.views import FixedCamera
from text23d.settings import Count, Flag, whole
from text23d.studies import markdown
from text23d.studies.launcher import Job
from text23d.studies.overrides import Override
from text23d.studies.records import Name, check_settings, mapping, number, reading
from text23d.studies.runs import SUMMARY, make_missing
from text23d.tasks.audio import PICTURE, WAV
from text23d.tasks.object import TURNTABLE_ELEVATION
from text23d.tasks.panorama import PANORAMA
from text23d.tasks.picture import IMAGE
from text23d.tasks.video import VIDEO

HEADS = ("kind", "colour", "part", "motion", "scene", "time", "weather", "instrument", "form", "pitch", "tempo")
"""Of judges, those that a table shows."""
SCORES = {
    f"{head}_{figure}": said.format("part's colour" if head == "part" else head)
    for head in HEADS
    for figure, said in (("accuracy", "{} right"), ("probability", "P({})"))
}
PLAYED = {"panorama": PANORAMA, "video": VIDEO, "audio": WAV}
"""Media of which a row of views is not all, and the file of each that is."""
COSTS = {"seconds": "seconds", "peak_memory_mb": "peak MB"}
PIXELS = 1 << 28
"""Of the largest gallery."""


@dataclass(frozen=True)
class Gallery:
    """`conf/gallery/gallery.yaml`.

    runs     a folder, with runs anywhere below it.
    out      the folder of gallery.png, .md and .json; None: `runs`.
    views    pictures of each run, evenly round its turntable.
    columns  runs side by side.
    size     side of a picture, in pixels.
    make     the overrides of runs that are to be there, made below `runs` where they are missing.
    keep     whether files to play are copied beside the page.
    workers  runs at a time.
    """

    runs: Name
    out: Name | None = None
    views: Annotated[int, whole(1, 360)] = 4
    columns: Annotated[int, whole(1, 100)] = 2
    size: Annotated[int, whole(8, 2048)] = 128
    make: list[list[Override]] = field(default_factory=list)
    keep: Flag = False
    workers: Count = 1


@dataclass(frozen=True)
class Run:
    """A finished run. figures: its scores and costs, by name, as far as it has them; faces: of its mesh."""

    folder: Path
    summary: dict[str, Any]
    prompt: str
    seed: int
    figures: dict[str, float]
    faces: int | None

    @property
    def played(self) -> str | None:
        """The file that is all of it; None: of an object or a picture."""
        return next((file for medium, file in PLAYED.items() if medium in self.summary), None)


@dataclass(frozen=True)
class Failed:
    """A run that failed, by the name of its folder, and why."""

    folder: str
    prompt: str
    seed: Any
    reason: str


def make_gallery(
    settings: Gallery, folders: Sequence[Path] | None = None, failed: Sequence[Failed] = ()
) -> tuple[str, list[str]]:
    """Write gallery.md, gallery.json and gallery.png; the table as markdown, and a line for each run or picture that
    was left out.

    folders: of the runs; None: all below `runs`. failed: listed with their reasons, and a white place each. Raises
    UserError where there is no run at all, or the picture would be too large.
    """
    failed = [*failed, *made(settings)]
    runs, left_out = read_runs(Path(settings.runs), folders, required=not failed)
    cells, without = [], []
    rows = -(-len(runs) // settings.columns)
    if rows * settings.columns * settings.views * settings.size**2 > PIXELS:
        raise UserError(
            f"{len(runs)} runs of views={settings.views}, size={settings.size}: the picture would have more than "
            f"{PIXELS >> 20} million pixels; choose fewer or smaller views"
        )
    prompts = Counter(run.prompt for run in runs)
    for run in runs:
        title = run.prompt if prompts[run.prompt] == 1 else f"{run.prompt}, seed {run.seed}"
        try:
            cells.append((title, pictures(run, settings.views, settings.size)))
        except UserError as error:
            without.append(f"no picture: {error}")
    media = [list(alike) for _, alike in groupby(runs, lambda run: run.played)]
    out, text = Path(settings.out or settings.runs), "\n".join(map(runs_table, media))
    white = np.full((settings.size, settings.size, 3), 255, np.uint8)
    cells += [(f"{' '.join(each.prompt.split())}, seed {each.seed}: failed", [white]) for each in failed]
    if cells:
        write_picture(cells, settings.columns, out / "gallery.png")
    skipped = [*left_out, *without]
    notes = [f"{each.folder} failed: {each.reason}" for each in failed] + skipped
    shown = [played(run, out, settings.keep) for run in runs if run.played]
    notes = [*(f"- {markdown.escaped(each)}" for each in notes), *shown]
    notes = ["", *notes] if notes else []
    found = {"mean": means(runs), "runs": [run.summary for run in runs], "skipped": skipped}
    write_json(out / "gallery.json", {**found, "failed": [asdict(each) for each in failed]})
    write_text(out / "gallery.md", text + "\n".join(notes) + "\n" * bool(notes))
    return text, skipped


def made(settings: Gallery) -> list[Failed]:
    """Make the runs that are to be there and are not; those that failed."""
    jobs = {}
    for own in settings.make:
        said = {each.partition("=")[0]: each.partition("=")[2].strip("'") for each in own}
        where = Path(settings.runs) / f"{slug(said.get('prompt') or said.get('regions'))}-{said.get('seed', 0)}"
        check_settings(where, {"settings": own})
        jobs[Job(tuple(own), where)] = said
    outcomes = make_missing(list(jobs), settings.workers, "auto") if jobs else []
    return [
        Failed(each.job.folder.name, jobs[each.job].get("prompt", ""), jobs[each.job].get("seed", 0), each.failure)
        for each in outcomes
        if each.failure
    ]


def read_runs(
    folder: Path, folders: Sequence[Path] | None = None, required: bool = True
) -> tuple[list[Run], list[str]]:
    """The finished runs in `folders`, or all below `folder`, by prompt and seed, and why others cannot be read. Raises
    UserError where one is required and there is none."""
    found, left_out = [], []
    for path in sorted(folder.rglob(SUMMARY)) if folders is None else [each / SUMMARY for each in folders]:
        try:
            found.append(read_run(path))
        except UserError as error:
            left_out.append(f"left out: {error}")
    if not found and required:
        damaged = f" ({len(left_out)} cannot be read; the first is {left_out[0]})" if left_out else ""
        raise UserError(f"no finished run below {folder}{damaged}: expected folders with a {SUMMARY}; check runs=")
    media = [None, *PLAYED.values()]
    return sorted(found, key=lambda run: (media.index(run.played), run.prompt, run.seed)), left_out


def read_run(path: Path) -> Run:
    """Of a run's summary. Raises UserError where it is damaged."""
    summary = read_json(path)
    with reading(path):
        json.dumps(plain(summary), ensure_ascii=False).encode()  # JSON may hold what no file can, as half of an emoji
        scores = mapping(summary["score"] or {})
        figures = {name: number(scores, name) for name in SCORES if scores.get(name) is not None}
        figures["seconds"] = number(summary["seconds"], "total")
        if summary["peak_memory_mb"] is not None:  # as where the system does not tell it
            figures["peak_memory_mb"] = number(summary, "peak_memory_mb")
        faces = round(number(summary["mesh"], "faces")) if "mesh" in summary else None
        prompt, seed = " ".join(summary["prompt"].split()), round(number(summary, "seed"))
    return Run(path.parent, summary, prompt, seed, figures, faces)


def pictures(run: Run, views: int, size: int) -> list[np.ndarray]:
    """Views of a run, evenly round its turntable or over its video; or the one picture that it made. Raises UserError
    where it left neither them nor its weights, or they cannot be read."""
    if "image" in run.summary:
        return [upscale(on_white(read_picture(run.folder / IMAGE, "picture")[None])[0], size)]
    across = views * (size + GAP) - GAP
    if "audio" in run.summary:
        return [spectrogram(run.folder / PICTURE, across, size)]
    if "panorama" in run.summary:
        return [upscale(on_white(read_picture(run.folder / PANORAMA, "panorama", square=False)[None])[0], across)]
    video = run.folder / (VIDEO if "video" in run.summary else "turntable.mp4")
    if not video.is_file() and any((run.folder / name).is_file() for name in (NERF, IMAGE_WEIGHTS)):
        return rendered(run.folder, views, size)
    if not video.is_file():
        raise UserError(f"{run.folder} has no {video.name}: its run made none, as with outputs=minimal; repeat the run")
    frames = read_frames(video)
    return [upscale(frames[index * len(frames) // views], size) for index in range(views)]


def spectrogram(path: Path, wide: int, high: int) -> np.ndarray:
    """The picture that a sound left, as wide as all views of others. Raises UserError where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB").resize((wide, high), Image.Resampling.BOX))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: expected the picture of a sound; repeat its run") from error


def rendered(folder: Path, views: int, size: int) -> list[np.ndarray]:
    """The same of a run that left its weights alone, as with outputs=minimal. Raises UserError where they are
    damaged."""
    if (folder / NERF).is_file():
        return list(on_white(read_nerf(folder).render_image(orbit(views, TURNTABLE_ELEVATION), size)))
    image = read_image(folder)
    return [upscale(on_white(image.render(FixedCamera().sample(1), (image.size, image.size)).detach())[0], size)]


def write_picture(cells: Sequence[tuple[str, list[np.ndarray]]], columns: int, path: Path) -> None:
    """The runs' pictures under their prompts, `columns` runs in a row."""
    joined = [(name, side_by_side(several)) for name, several in cells]
    rows = [joined[start : start + columns] for start in range(0, len(joined), columns)]
    contact_sheet([(" | ".join(name for name, _ in row), [picture for _, picture in row]) for row in rows], path)


def side_by_side(several: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one height as one, GAP apart on white."""
    gap = np.full((len(several[0]), GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in several for part in (gap, picture)][1:], 1)


def played(run: Run, out: Path, keep: bool) -> str:
    """Where all of what a run made is, as a line of markdown in a file of the folder `out`; keep: copied there."""
    assert run.played is not None, "only what has such a file"
    path = run.folder / run.played
    if keep and path.is_file():
        path = out / f"{run.folder.name}{path.suffix}"
        with atomic(path) as temporary:
            shutil.copyfile(run.folder / run.played, temporary)
    place, how = Path(os.path.relpath(path, out)).as_posix(), "see" if path.suffix == ".png" else "play"
    return f"- to {how}: [{markdown.escaped(run.prompt)}, seed {run.seed}](<{place}>)"


def means(runs: Sequence[Run]) -> dict[str, float]:
    """Each figure, averaged over the runs that have it."""
    columns = {name: [run.figures[name] for run in runs if name in run.figures] for name in (*SCORES, *COSTS)}
    return {name: fmean(values) for name, values in columns.items() if values}


def runs_table(runs: Sequence[Run]) -> str:
    """A row for each run and one for the means, as markdown. Scores are shares of a run's views, or mean probabilities;
    those that no run has are left out."""
    mean = means(runs)
    scores = [name for name in SCORES if name in mean]

    def cells(figures: dict[str, float], faces: str) -> list[str]:
        shares = [markdown.number(figures.get(name), 2) for name in scores]
        return [*shares, *(markdown.number(figures.get(name), 0) for name in COSTS), faces]

    rows = [
        [markdown.escaped(run.prompt), str(run.seed), *cells(run.figures, "-" if run.faces is None else str(run.faces))]
        for run in runs
    ]
    rows.append([f"**mean of {len(runs)}**", "", *cells(mean, "")])
    titles = ["prompt", "seed", *(SCORES[name] for name in scores), *COSTS.values(), "faces"]
    return "\n".join(markdown.table(titles, rows)) + "\n"
