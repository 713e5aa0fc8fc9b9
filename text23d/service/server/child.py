"""python -m text23d.service.server.child: one job, which ends when its standard input does.

It imports all that a run requires, and then waits for the first line of its input: the folder and the configuration as
JSON. The worker holds the other end, as in `engine.worker`. What the run shows is kept in its folder for readers:
`progress.json`, and `preview.png`, its latest picture.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from text23d.engine.worker import HUNG, INTERRUPTED, MISTAKE, OUTPUT, first_line, stop_at_end_of_input

PROGRESS, PREVIEW = "progress.json", "preview.png"
SHOWN = 4
"""Pictures of a preview, at most."""
EVERY = 0.25
"""Seconds from one note of the progress to the next, at least."""
FIGURES = ("sigma", "loss", "noise_ratio", "residual")


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    told: SimpleQueue[bytes | None] = SimpleQueue()
    threading.Thread(target=listen, args=(told,), daemon=True).start()
    try:
        import text23d.engine.job  # noqa: F401 (takes seconds, for which nobody has to wait)

        line = told.get()
        if line is None:
            sys.exit(INTERRUPTED)
        asked = json.loads(line)
        work(Path(asked["folder"]), asked["cfg"], asked["gpu_share"])
    except KeyboardInterrupt as error:
        print(f"text23d: {error or 'interrupted'}", flush=True)
        sys.exit(INTERRUPTED)


def listen(told: SimpleQueue[bytes | None]) -> None:
    """Pass on the first line; when the input ends, end the process, as Ctrl-C does where a job has begun."""
    try:
        told.put(first_line())
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # nothing has begun
    stop_at_end_of_input()


def work(folder: Path, cfg: dict[str, Any], gpu_share: float | None) -> None:
    """The main job in `folder`; what it says goes to its log. gpu_share: of a GPU's memory, that it may take."""
    from text23d.engine.job import execute
    from text23d.errors import Hung, UserError

    log = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if gpu_share is not None:
        limit_gpu(gpu_share)
    try:
        execute(cfg, folder, Notes(folder))
    except UserError as error:
        print(f"text23d: {error}", flush=True)
        sys.exit(HUNG if isinstance(error, Hung) else MISTAKE)


def limit_gpu(share: float) -> None:
    """Let this process take no more than a share of its GPU's memory."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)


class Notes:
    """Keeps what a run tells in its folder, and in its log what a person should know. Losing one, as on a full disk,
    stops no run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.last = folder, 0.0
        self.mean: float | None = None  # seconds of an iteration
        self.now: dict[str, Any] = {"stage": "starting", "pictures": 0}

    def __call__(self, event: Any) -> None:
        from text23d.engine import events
        from text23d.engine.spoken import spoken

        for line in spoken(event):
            print(f"text23d: {line}", flush=True)
        if isinstance(event, events.Started):
            self.now |= {"stage": "iterating", "iteration": event.done, "iterations": event.iterations}
            self.note(True)
        elif isinstance(event, events.Iterated):
            self.iterated(event.iteration, event.iterations, event.figures)
        elif isinstance(event, events.Looked):
            self.show(list(event.pictures.values()))
        elif isinstance(event, events.Exporting):
            self.now |= {"stage": "exporting", "what": event.what, "done": event.done, "total": event.total}
            self.now.pop("seconds_left", None)
            self.note(event.done == event.total)

    def iterated(self, iteration: int, iterations: int, figures: Any) -> None:
        spent = float(figures.get("seconds", 0.0))
        self.mean = spent if self.mean is None else 0.9 * self.mean + 0.1 * spent
        said = {name: figures[name] for name in FIGURES if isinstance(figures.get(name), int | float)}
        left = (iterations - iteration) * self.mean
        self.now |= {"iteration": iteration, "iterations": iterations, "figures": said, "seconds_left": left}
        self.note(iteration == iterations)

    def show(self, pictures: list[Any]) -> None:
        """Some of the pictures [H, W, 3], evenly chosen, side by side in rows of two."""
        from PIL import Image

        from text23d.files import atomic

        chosen = pictures[:: max(1, -(-len(pictures) // SHOWN))][:SHOWN]
        high, wide = chosen[0].shape[:2]
        across = min(2, len(chosen))
        whole = Image.new("RGB", (across * wide, -(-len(chosen) // across) * high), "white")
        for number, each in enumerate(chosen):
            whole.paste(Image.fromarray(each), (number % across * wide, number // across * high))
        with suppress(Exception), atomic(self.folder / PREVIEW) as temporary:
            whole.save(temporary, "PNG")
            self.now["pictures"] += 1
        self.note(True)

    def note(self, at_once: bool) -> None:
        """Write what is known, unless that was done a moment ago. It need not outlive a power cut, so is not synced."""
        if not at_once and time.monotonic() - self.last < EVERY:
            return
        from text23d.files import plain

        self.last = time.monotonic()
        new = self.folder / f".part-{PROGRESS}"
        with suppress(OSError):
            new.write_text(json.dumps(plain(self.now), allow_nan=False), encoding="utf-8")
            os.replace(new, self.folder / PROGRESS)


if __name__ == "__main__":
    main()
