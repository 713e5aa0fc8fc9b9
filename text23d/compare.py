"""python -m text23d.compare lineup=methods suite=quick: variants of a run x prompts x seeds at equal cost, in one table
and one picture. What is there already is not made again: the same command goes on."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("compare")  # which imports what follows once the command line is read

import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from text23d.door.overrides import check_passed_on
from text23d.settings import read
from text23d.studies.comparison.study import Comparison, compare
from text23d.studies.comparison.table import comparison_table


def run(cfg: DictConfig) -> None:
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = read(Comparison, values)
    cli.device(settings.device)
    check_passed_on(settings.overrides().values())
    results = compare(settings, lambda line: print(f"text23d: {line}", file=sys.stderr))
    print(comparison_table(results), end="")
