"""python -m text23d.strips medium=video: ways of making panoramas, videos or sounds x prompts x seeds at equal cost, as
tables and a picture. What is there already is not made again: the same command goes on."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("strips")  # which imports what follows once the command line is read

import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from text23d.door.overrides import check_passed_on
from text23d.settings import read
from text23d.studies.strips.study import compare_strips
from text23d.studies.strips.suite import StripStudy
from text23d.studies.strips.table import strips_table


def run(cfg: DictConfig) -> None:
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    study = read(StripStudy, values)
    cli.device(study.device)
    check_passed_on(study.overrides().values())
    print(strips_table(compare_strips(study, lambda line: print(f"text23d: {line}", file=sys.stderr))), end="")
