"""python -m text23d.run prompt="a red car": from a prompt to an object or an image, and pictures of it."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("run")  # which imports what follows once the command line is read

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from text23d.door.commandline import CommandLine
from text23d.door.layout import configuration
from text23d.engine.job import attend, execute
from text23d.engine.meeting import meeting
from text23d.engine.past import past_config
from text23d.engine.resume import AUTO, asked
from text23d.errors import UserError
from text23d.studies.launcher import Source
from text23d.studies.sweep import make_sweep
from text23d.terminal import Terminal


def run(cfg: DictConfig) -> None:
    """The main job; everything it makes lies in Hydra's output folder."""
    folder = cli.output_folder()
    with meeting() as ranks:
        if not ranks.first:
            return attend(json.loads(ranks.broadcast()), ranks)
        plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
        if plain["resume"]["folder"] not in (None, AUTO):
            plain = asked(past_config(folder), plain, HydraConfig.get().overrides.task)
        ranks.broadcast(json.dumps(plain).encode())
        try:
            with Terminal() as terminal:
                execute(plain, folder, terminal, cli.STARTED, ranks)
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


def remove_empty(folder: Path) -> None:
    """Take away the empty folders, inside the working folder, that Hydra made for a run that wrote nothing."""
    inside = [each for each in (folder, *folder.parents) if Path.cwd() in each.parents]
    with suppress(OSError):
        for each in inside or [folder]:
            each.rmdir()
