"""The folder of a run, locked while it runs."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from text23d.errors import UserError

LOCK = ".running"
CHECKPOINTS = "checkpoints"
CONFIG, METRICS, SHEET, SUMMARY = "config.yaml", "metrics.jsonl", "contact.png", "summary.json"
PROBES = "probes"
LOG, TENSORBOARD = "log.txt", "tensorboard"
COMMANDS, VIEWER = "commands.jsonl", "viewer"
RESULTS = (
    *(CONFIG, METRICS, SUMMARY, LOG, SHEET, COMMANDS, "turntable.mp4"),
    *("nerf.safetensors", "image.safetensors", "image.png"),
    *("panorama.safetensors", "panorama.png", "pan.mp4"),
    *("audio.safetensors", "audio.wav", "audio.png"),
    *("mesh.glb", "mesh.obj", "mesh.mtl", "mesh.png", "mesh.ply"),
)
"""What runs leave in their folder."""


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Locks `folder` for this run; it is made, and taken away again where nothing was written into it.

    Raises UserError where another run does, or where it cannot be a folder that can be written to.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"cannot write to the folder {folder}: {error.strerror}; choose another") from error
    try:
        if not (_locked(handle) and _still(folder / LOCK, handle)):
            raise UserError(f"another run is writing to {folder}: wait for it, or choose another folder")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):
            for each in made:
                each.rmdir()


BEGUN = ".part-*", ".tmp??????"
"""Files that are being written, by us and by safetensors, which writes beside its place, too."""


def clear(folder: Path, but: Collection[str] = ()) -> None:
    """Take away what an earlier run left in `folder`, so that nothing of two runs is mixed, `but` these files; and what
    a process that was killed had begun to write: nobody else writes into a folder that is claimed."""
    for name in RESULTS:
        if name not in but:
            (folder / name).unlink(missing_ok=True)
    if TENSORBOARD not in but:
        for events in (folder / TENSORBOARD).glob("events.out.tfevents.*"):
            events.unlink()
        with contextlib.suppress(OSError):  # there is none, or somebody has put more into it
            (folder / TENSORBOARD).rmdir()
    for part in (each for place in (folder, folder / CHECKPOINTS) for name in BEGUN for each in place.glob(name)):
        part.unlink(missing_ok=True)
    if METRICS not in but:  # nothing of the run stays
        shutil.rmtree(folder / VIEWER, ignore_errors=True)
        for probe in folder.glob(f"{PROBES}/[0-9]*"):
            shutil.rmtree(probe, ignore_errors=True)
        with contextlib.suppress(OSError):
            (folder / PROBES).rmdir()


def in_use(folder: Path) -> bool:
    """Whether a run is writing into `folder` now."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _locked(handle)
    finally:
        os.close(handle)


def _still(path: Path, handle: int) -> bool:
    """Whether `path` is still the file that was opened, and not removed by a run that ended meanwhile."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(handle))
    return False


def _locked(handle: int) -> bool:
    """Whether this process has the lock now. The system takes it back when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
