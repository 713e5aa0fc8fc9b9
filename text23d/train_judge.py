"""python -m text23d.train_judge: trains the classifier that scores results. The same command again resumes."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("train_judge")  # which imports what follows once the command line is read

from omegaconf import DictConfig, OmegaConf

from text23d.engine.judge_training import Settings, train_judge
from text23d.engine.meeting import meeting
from text23d.engine.training import unheard
from text23d.settings import build, read
from text23d.terminal import Bars


def run(cfg: DictConfig) -> None:
    given: dict = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment, type-arg]
    settings, world = read(Settings, given), build(given["world"], "world")
    with meeting() as ranks, Bars() as bars:
        path, judge = train_judge(
            world, settings, ranks.device(cli.device(cfg.device)), bars if ranks.first else unheard, ranks
        )
    if ranks.first:
        print(f"{path}: on unseen examples {judge.card['clean']}, corrupted {judge.card['corrupted']}")
