"""python -m text23d.run prompt="a red car": from a prompt to an object or an image, and pictures of it."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("run")  # which imports what follows once the command line is read

import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from text23d.door.commandline import CommandLine
from text23d.door.layout import configuration
from text23d.engine.events import Event, Exporting, Finished, Iterated, Noted, Started
from text23d.engine.job import execute
from text23d.engine.resume import AUTO, asked, read_config
from text23d.errors import UserError
from text23d.studies.launcher import Source
from text23d.studies.sweep import make_sweep


def run(cfg: DictConfig) -> None:
    """The main job; everything it makes lies in Hydra's output folder."""
    folder = cli.output_folder()
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    if plain["resume"]["folder"] not in (None, AUTO):
        plain = asked(read_config(folder), plain, HydraConfig.get().overrides.task)
    try:
        with Terminal() as terminal:
            execute(plain, folder, terminal, cli.STARTED)
    except UserError:
        remove_empty(folder)
        raise


def sweep(line: CommandLine, arguments: Sequence[str]) -> None:
    """The main job several times. Raises UserError, with the first of them, where runs failed."""
    asked = line.sweep
    assert asked is not None
    again = [each for each in arguments if not each.startswith("hydra.sweep.dir=")]
    command = shlex.join(["text23d", "run", *again, f"hydra.sweep.dir={asked.folder}"])
    with configuration(line.config_path, asked.config_dir):
        source = Source(GlobalHydra.instance().config_loader(), line.config_name, tuple(asked.hydra))
        try:
            make_sweep(asked.runs, source, Path(asked.folder), command, say)
        except UserError:
            remove_empty(Path(asked.folder).absolute())
            raise


def say(text: str) -> None:
    print(f"text23d: {text}", file=sys.stderr)


class Terminal:
    """Shows events on standard error: a bar for what takes its time, and lines."""

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Iterated):
            names = ("sigma", "loss", "noise_ratio", "residual")
            figures = ", ".join(f"{name} {event.figures[name]:.3g}" for name in names)
            self.advance("it", event.iteration, event.iterations, figures)
        elif isinstance(event, Exporting):
            self.advance(event.what, event.done, event.total)
        else:
            self.close()
            for line in spoken(event):
                print(f"text23d: {line}", file=sys.stderr)

    def advance(self, unit: str, done: int, total: int, figures: str = "") -> None:
        """One bar for each unit, open until it is full."""
        if self.bar is None or self.bar.unit != unit:
            self.close()
            self.bar = tqdm(total=total, unit=unit, miniters=1, dynamic_ncols=True)
        self.bar.set_postfix_str(figures, refresh=False)
        self.bar.update(done - self.bar.n)
        if done == total:
            self.close()


def spoken(event: Event) -> list[str]:
    """An event as the lines that a person reads."""
    if isinstance(event, Started):
        return [f"{event.prompt!r} on {event.device}, kernels {event.kernels}, to {event.folder}"]
    if isinstance(event, Finished):
        return [spent(event.summary), verdict(event.summary, event.message, event.folder)]
    return [event.text] if isinstance(event, Noted) else []


def spent(summary: Any) -> str:
    """Where the time of the run and of its loop went, in one line each of seconds."""
    run, loop = (
        ", ".join(f"{name} {value:.0f}" for name, value in summary[part].items() if value >= 0.5)
        for part in ("seconds", "loop")
    )
    return f"seconds: {run}; of the loop: {loop}"


def verdict(summary: Any, message: str, folder: Path) -> str:
    """The last line a person reads."""
    score = ", ".join(f"{name} {value:.2f}" for name, value in (summary["score"] or {}).items()) or "not asked"
    return f"done in {summary['seconds']['total']:.0f} s, {message}; judge: {score}; see {folder}"


def remove_empty(folder: Path) -> None:
    """Take away the empty folders, inside the working folder, that Hydra made for a run that wrote nothing."""
    inside = [each for each in (folder, *folder.parents) if Path.cwd() in each.parents]
    with suppress(OSError):
        for each in inside or [folder]:
            each.rmdir()
