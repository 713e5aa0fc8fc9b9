"""What an earlier process left of a run in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text23d.engine.checkpoints import Checkpoints, CheckpointSettings
from text23d.engine.folder import PROBES, SUMMARY
from text23d.engine.resume import ResumeSettings, is_finished, read_config, require_run, require_same
from text23d.errors import UserError
from text23d.files import load_tensors, read_json

CONTENTS = {"state", "config", "made", "elapsed", "troubles", "best", "metrics"}


@dataclass(frozen=True)
class Past:
    """contents: of the last whole checkpoint (see `Run.contents`); summary: of a run that has finished, else empty;
    finished: whether nothing is left to do."""

    contents: Mapping[str, Any]
    summary: dict[str, Any]
    finished: bool = False


def find_past(
    folder: Path,
    cfg: Mapping[str, Any],
    checkpoints: Checkpoints,
    settings: ResumeSettings,
    note: Callable[[str], None],
) -> Past | None:
    """The past of the run that is asked for, if it is to go on; None: it begins anew.

    Damaged files are noted, and passed over. Raises UserError where the run in `folder` has another configuration than
    `cfg`, and where a finished one has no checkpoint from which it could go on.
    """
    if settings.folder is None:
        return None
    try:
        require_run(folder)
    except UserError:
        return None
    require_same(folder, past_config(folder, note), cfg, settings.force)
    summary = _summary(folder, note)
    if summary and is_finished(summary, cfg):
        return Past({}, summary, finished=True)
    for contents in checkpoints.read(note):
        if CONTENTS - contents.keys():
            raise UserError(f"{checkpoints.folder} holds checkpoints of another version: begin in another folder")
        require_same(folder, contents["config"], cfg, settings.force)
        return Past(contents, summary)
    if (folder / SUMMARY).exists():
        raise UserError(
            f"the run in {folder} has finished, and left no checkpoint to go on from: begin in another folder"
        )
    if not (folder / PROBES).is_dir():  # which go on by themselves
        note(f"no whole checkpoint in {checkpoints.folder}: the run begins anew")
    return None


def past_config(folder: Path, note: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """The configuration of the run in `folder`: that of its newest checkpoint where config.yaml is missing or damaged.
    Raises UserError where there is none."""
    try:
        return read_config(folder)
    except UserError as error:
        for contents in Checkpoints(folder, CheckpointSettings()).read(lambda text: None):
            note(f"{error}; the configuration in its checkpoints is used")
            return dict(contents["config"])
        raise


def _summary(folder: Path, note: Callable[[str], None]) -> dict[str, Any]:
    """Of a run that finished, if it did, and if what it says is whole, as its phi is."""
    path = folder / SUMMARY
    if not path.exists():
        return {}
    try:
        for phi in folder.glob("*.safetensors"):
            load_tensors(phi, phi.stem)
        summary = read_json(path)
    except UserError as error:
        note(f"{error}; it is made again from the last checkpoint")
        return {}
    with suppress(KeyError, TypeError, AttributeError):
        figures = (summary["seconds"], summary["loop"], summary["score"] or {}, {"iterations": summary["iterations"]})
        if all(isinstance(value, int | float) for each in figures for value in each.values()):
            return summary
    note(f"{path} is damaged: it is made again from the last checkpoint")
    return {}
