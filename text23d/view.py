"""python -m text23d.view run=<folder>: a run, finished or on its way, in the browser; or recorded as a page."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("view")  # which imports what follows once the command line is read

import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from omegaconf import DictConfig, OmegaConf

from text23d.engine.beside import ADDRESS, require_viser
from text23d.engine.folder import VIEWER, in_use
from text23d.errors import UserError
from text23d.files import write_json
from text23d.kernels.backend import select
from text23d.service.viewer.source import Source
from text23d.settings import Flag, Text, read, whole

NICE = 15
"""How far the viewer stands behind the run, where both want a processor: it then gets about 3 % of it."""


@dataclass(frozen=True)
class ViewSettings:
    """What conf/view.yaml explains."""

    run: Text
    record: Text | None = None
    frames: Annotated[int, whole(1, 1000)] = 24
    port: Annotated[int, whole(1, 65_535)] = 8080
    host: Text = "127.0.0.1"
    dark: Flag = False
    beside: Flag = False
    keep: Flag = False


def run(cfg: DictConfig) -> None:
    require_viser("view")
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    settings, folder = read(ViewSettings, plain), Path(plain["run"])
    if settings.beside:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, with which this ends
    device = placed(in_use(folder), plain["device"])
    select(plain["backend"])
    source = Source(folder, device, say)
    if settings.record is not None:
        from text23d.service.viewer.recording import record

        say(record(source, Path(settings.record), settings.frames, settings.dark))
        return
    show(source, settings)


def placed(running: bool, device: str) -> torch.device:
    """The device; beside a run that is on its way, the CPU and one thread of it."""
    if not running:
        return cli.device(device)
    torch.set_num_threads(1)
    return cli.device("cpu" if device == "auto" else device)


def show(source: Source, settings: ViewSettings) -> None:
    """Serve the page until Ctrl-C or, beside a run, until that ends."""
    from text23d.service.viewer.site import Site

    site = Site(source, settings.host, settings.port, settings.dark)
    with suppress(UserError):  # of a folder that cannot be written to
        if (source.folder / VIEWER).is_dir():
            write_json(source.folder / ADDRESS, {"address": site.address, "process": os.getpid()})
    if source.running:
        with suppress(OSError, AttributeError):  # Windows has none
            os.nice(NICE - os.nice(0))
    if not settings.beside:
        say(f"{source.folder} is at {site.address}; Ctrl-C ends it")
    try:
        site.serve(lambda: settings.beside and not settings.keep and not source.running)
    finally:
        threading.Thread(target=site.close, daemon=True).start()
        with suppress(OSError):
            (source.folder / ADDRESS).unlink(missing_ok=True)


def say(text: str) -> None:
    print(f"text23d: {text}", file=sys.stderr, flush=True)
