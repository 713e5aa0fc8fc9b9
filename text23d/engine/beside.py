"""The viewer of a run, as a process of its own beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from text23d.engine.events import Noted
from text23d.engine.folder import VIEWER
from text23d.engine.live import STATUS, Live, ViewerSettings
from text23d.engine.run import Run
from text23d.errors import UserError
from text23d.files import read_json

ADDRESS, SAID = f"{VIEWER}/address.json", f"{VIEWER}/viewer.log"
ENDING = 5.0
"""Seconds in which a viewer that is told to end may do so."""


def require_viser(setting: str) -> None:
    """Raises UserError where what draws the page is not installed."""
    if find_spec("viser") is None:
        raise UserError(f'{setting}: viser is not installed; pip install -e ".[viewer]", or leave it out')


@contextmanager
def viewed(run: Run, settings: ViewerSettings) -> Iterator[None]:
    """Inside, the run shows itself to viewers and hears them, if it is to; and one of them runs beside it, if it is
    wanted, and is ended with the block, unless it is to be kept. Raises UserError where the run's folder cannot be
    written to."""
    if not settings.active:
        (run.folder / STATUS).unlink(missing_ok=True)  # of an earlier process, which listened
        yield
        return
    run.live = Live(run.folder, settings, run.parts.recipe.iterations, run.trouble)
    run.parts = replace(run.parts, seen=run.live.see)
    (run.folder / ADDRESS).unlink(missing_ok=True)
    beside = Beside(run.folder, settings) if settings.start else None
    if beside is not None:
        run.live.news = beside.news
    try:
        yield
    finally:
        if beside is not None and not settings.keep:
            beside.end()
        elif beside is not None and beside.process.poll() is None:
            run.on_event(Noted(f"the viewer stays: kill {beside.process.pid} ends it"))


class Beside:
    """The viewer's process. It finds out by itself when the run ends, however that ends."""

    def __init__(self, folder: Path, settings: ViewerSettings) -> None:
        self.folder, self.told = folder, False
        command = [sys.executable, "-m", "text23d.view", f"run={folder.absolute()}", f"port={settings.port}"]
        own = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with open(folder / SAID, "wb") as said:
            self.process = subprocess.Popen(
                [*command, f"keep={str(settings.keep).lower()}", "beside=true"],
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def news(self) -> list[str]:
        """A line that says where the viewer is, once it is there, or why it ended; nothing else."""
        if self.told:
            return []
        with suppress(UserError, KeyError):
            address = read_json(self.folder / ADDRESS)["address"]
            self.told = True
            return [f"viewer: {address}"]
        if self.process.poll() is None:
            return []
        self.told = True
        with suppress(OSError):
            lines = (self.folder / SAID).read_text(errors="replace").splitlines()
            return [f"the viewer ended: {(lines or ['it does not say why'])[-1].removeprefix('text23d: ')}"]
        return []

    def end(self) -> None:
        with suppress(OSError):
            self.process.terminate()
        try:
            self.process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
