"""What an earlier process left of a run in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text23d.engine.checkpoints import Checkpoints
from text23d.engine.folder import CONFIG, PROBES, SUMMARY
from text23d.engine.resume import ResumeSettings, is_finished, read_config, require_same
from text23d.errors import UserError
from text23d.files import read_json


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

    Damaged checkpoints are noted, and passed over. Raises UserError where the run in `folder` has another configuration
    than `cfg`, and where a finished one has no checkpoint from which it could go on.
    """
    if settings.folder is None or not (folder / CONFIG).exists():
        return None
    require_same(folder, read_config(folder), cfg, settings.force)
    summary = _summary(folder / SUMMARY)
    if summary and is_finished(summary, cfg):
        return Past({}, summary, finished=True)
    for contents in checkpoints.read(note):
        if not {"state", "config", "made", "elapsed", "troubles", "best"} <= contents.keys():
            raise UserError(f"{checkpoints.folder} holds checkpoints of another version: begin in another folder")
        require_same(folder, contents["config"], cfg, settings.force)
        return Past(contents, summary)
    if summary:
        raise UserError(
            f"the run in {folder} has finished, and left no checkpoint to go on from: begin in another folder"
        )
    if not (folder / PROBES).is_dir():  # which go on by themselves
        note(f"no whole checkpoint in {checkpoints.folder}: the run begins anew")
    return None


def _summary(path: Path) -> dict[str, Any]:
    """Of a run that finished, if it did, and was told whole."""
    try:
        return read_json(path) if path.exists() else {}
    except UserError:
        return {}
