"""The folders that runs write to: writable, lockable, with room; and that a video can be made there."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from text23d.artifact.media import read_frames, turntable
from text23d.engine.folder import claimed
from text23d.errors import UserError
from text23d.files import write_bytes
from text23d.memory import gib
from text23d.studies.doctor.finding import Finding, State, judged

ROOM = 100 * 10**6
"""Bytes that a run may take on the disk with its checkpoints, rounded up."""
BLOCK = 2**20


def check(folder: Path) -> Iterator[Finding]:
    yield room("output folder", folder, "failure")
    yield room("temporary folder", Path(tempfile.gettempdir()), "warning")
    here = folder / f"doctor-{secrets.token_hex(4)}"
    yield from tried(here)


def room(name: str, folder: Path, state: State) -> Finding:
    """The space that is left where `folder` is, or will be."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    advice = f"a run may take {ROOM / 1e6:.0f} MB: free some space, or choose another folder"
    return judged(name, f"{gib(free)} free in {there}", advice, free < ROOM, state, free=free)


def tried(folder: Path) -> Iterator[Finding]:
    """A folder that is made, locked, written to and taken away again."""
    advice = "choose a folder that can be written to, with hydra.run.dir=<folder>"
    try:
        with claimed(folder):
            yield locked(folder)
            data = secrets.token_bytes(BLOCK)
            try:
                write_bytes(folder / "doctor.bin", data)
                same = (folder / "doctor.bin").read_bytes() == data
                yield judged(
                    "writing",
                    f"1 MiB written, synced and read in {folder.parent}",
                    "its bytes changed: check the disk",
                    not same,
                )
                yield video(folder / "doctor.mp4")
            finally:
                for name in ("doctor.bin", "doctor.mp4"):
                    (folder / name).unlink(missing_ok=True)
    except UserError as error:
        yield Finding("writing", "failure", str(error), advice)


def locked(folder: Path) -> Finding:
    """Whether a second run would be refused in a folder that one has."""
    try:
        with claimed(folder):
            pass
    except UserError:
        return Finding("locking", "ok", "a second run in one folder is refused")
    advice = "this file system has no locks: give each run a folder of its own"
    return Finding("locking", "warning", f"two runs in one folder below {folder.parent} would both write", advice)


def video(path: Path) -> Finding:
    """Whether ffmpeg runs and encodes."""
    frames = [np.full((32, 32, 3), level, np.uint8) for level in (0, 255)]
    try:
        turntable(frames, path)
        count = len(read_frames(path))
    except UserError as error:
        return Finding("ffmpeg", "failure", str(error), "pip install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE")
    return judged(
        "ffmpeg", f"a video of {count} frames written and read", "it lost frames: install it again", count != 2
    )
