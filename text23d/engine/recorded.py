"""What a job keeps of its events in its folder: log.txt, and what TensorBoard shows where it was asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from text23d.engine.events import Event, Iterated, Looked, OnEvent, Started
from text23d.engine.folder import LOG, TENSORBOARD
from text23d.engine.spoken import spoken
from text23d.errors import UserError
from text23d.files import Lines


@contextmanager
def recorded(folder: Path, tensorboard: bool, on_event: OnEvent) -> Iterator[OnEvent]:
    """A listener that keeps each event in `folder`, and then tells `on_event`. Nothing is written before the first
    event: until then the folder may be another's. What ends the run early is the log's last line.

    Raises UserError where TensorBoard is asked for and not installed, before anything is written.
    """
    begun = False
    with Board(folder / TENSORBOARD) if tensorboard else nullcontext() as board:

        def tell(event: Event) -> None:
            nonlocal begun
            begun = True
            for text in spoken(event):
                write(folder / LOG, text)
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

    A run that goes on has another event file; what an earlier one says of the iterations after the checkpoint is
    dropped by TensorBoard. Raises UserError where TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if find_spec("tensorboard") is None:
            raise UserError('tensorboard=true: it is not installed; pip install -e ".[tensorboard]", or leave it out')
        self.folder = folder
        self.writer: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=event.iteration + 1 if event.iteration else None)
        elif isinstance(event, Iterated):
            for name, value in event.figures.items():
                if name != "iteration" and isinstance(value, int | float):
                    self.writer.add_scalar(name, value, event.iteration)
        elif isinstance(event, Looked):
            for name, picture in event.pictures.items():
                self.writer.add_image(f"views/{name}", picture, event.iteration, dataformats="HWC")
            self.writer.flush()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *raised: object) -> None:
        if self.writer is not None:
            self.writer.close()
