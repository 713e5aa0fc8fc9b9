"""python -m text23d.train_prior: trains a built-in prior on a procedural world. The same command again resumes."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("train_prior")  # which imports what follows once the command line is read

from omegaconf import DictConfig, OmegaConf

from text23d.engine.meeting import meeting
from text23d.engine.prior_training import Settings, train_prior
from text23d.engine.training import unheard
from text23d.settings import build, read
from text23d.terminal import Bars


def run(cfg: DictConfig) -> None:
    given: dict = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment, type-arg]
    settings, world = read(Settings, given), build(given["world"], "world")
    with meeting() as ranks, Bars() as bars:
        path = train_prior(
            world, settings, ranks.device(cli.device(cfg.device)), bars if ranks.first else unheard, ranks
        )
    if ranks.first:
        print(f"{path}: see {path.with_suffix('.md')}")
