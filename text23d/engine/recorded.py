"""What a job keeps of its events in its folder: log.txt, and what TensorBoard shows where it was asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from text23d.engine.events import Event, Finished, Iterated, Looked, OnEvent, Started
from text23d.engine.folder import LOG, TENSORBOARD
from text23d.engine.spoken import spoken
from text23d.errors import UserError
from text23d.files import Lines


@contextmanager
def recorded(folder: Path, tensorboard: bool, on_event: OnEvent) -> Iterator[OnEvent]:
    """A listener that keeps each event in `folder`, and then tells `on_event`. What ends the run early is the last line
    of the log. Nothing is written before the run has started, since until then the folder may be another's.

    Raises UserError where TensorBoard is asked for and not installed, before anything is written.
    """
    begun, early = False, list[str]()
    with Board(folder / TENSORBOARD) if tensorboard else nullcontext() as board:

        def tell(event: Event) -> None:
            nonlocal begun
            begun = begun or isinstance(event, Started | Finished)
            early.extend(spoken(event))
            while begun and early:
                write(folder / LOG, early.pop(0))
            if board is not None:
                board(event)
            on_event(event)

        try:
            yield tell
        except BaseException as error:
            if begun:
                with suppress(UserError):  # of a disk that is full: that is what the error says already
                    write(folder / LOG, str(error) or type(error).__name__)
            raise


def write(log: Path, text: str) -> None:
    """Add a line, with the time of the day. Raises UserError where it cannot be written."""
    with Lines(log) as lines:
        lines.append(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {' '.join(text.split())}")


class Board:
    """Writes the figures of each iteration, and the pictures of each look, as event files of TensorBoard.

    A run that goes on, or back, begins another event file; what an earlier one says of the iterations that are taken
    again is dropped by TensorBoard. Raises UserError where TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if find_spec("tensorboard") is None:
            raise UserError('tensorboard=true: it is not installed; pip install -e ".[tensorboard]", or leave it out')
        self.folder, self.next = folder, 0
        self.writer: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self.begin(event.done + 1 if event.done else None)
        elif isinstance(event, Iterated | Looked):
            if event.iteration < self.next:
                self.begin(event.iteration)
            self.next = event.iteration + isinstance(event, Iterated)  # a look comes before its iteration is told
            self.show(event)

    def begin(self, purge: int | None) -> None:
        """An event file that replaces what the earlier ones say from iteration `purge` on."""
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        self.writer, self.next = SummaryWriter(str(self.folder), purge_step=purge), purge or 0

    def show(self, event: Iterated | Looked) -> None:
        if isinstance(event, Looked):
            for name, picture in event.pictures.items():
                self.writer.add_image(f"views/{name}", picture, event.iteration, dataformats="HWC")
            self.writer.flush()
            return
        for name, value in event.figures.items():
            if name != "iteration" and isinstance(value, int | float):
                self.writer.add_scalar(name, value, event.iteration)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
