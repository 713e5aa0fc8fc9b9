"""python -m text23d.run prompt="a red car": from a prompt to an object or an image, and pictures of it."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("run")  # which imports what follows once the command line is read

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from text23d.engine.job import attend, execute
from text23d.engine.meeting import meeting
from text23d.engine.past import past_config
from text23d.engine.resume import AUTO, asked
from text23d.errors import UserError
from text23d.terminal import Terminal


def run(cfg: DictConfig) -> None:
    """The main job; everything it makes lies in Hydra's output folder."""
    folder = cli.output_folder()
    # The later jobs of a sweep share a process: only a single run waited for its start.
    started = cli.STARTED if HydraConfig.get().mode == RunMode.RUN else time.perf_counter()
    with meeting() as ranks:
        if not ranks.first:
            return attend(json.loads(ranks.broadcast()), ranks)
        plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
        if plain["resume"]["folder"] not in (None, AUTO):
            plain = asked(past_config(folder), plain, HydraConfig.get().overrides.task)
        ranks.broadcast(json.dumps(plain).encode())
        try:
            with Terminal() as terminal:
                execute(plain, folder, terminal, started, ranks)
        except UserError:
            remove_empty(folder)
            raise


def remove_empty(folder: Path) -> None:
    """Take away the empty folders, inside the working folder, that Hydra made for a run that wrote nothing."""
    inside = [each for each in (folder, *folder.parents) if Path.cwd() in each.parents]
    with suppress(OSError):
        for each in inside or [folder]:
            each.rmdir()
