"""python -m text23d.evaluate suite=full: how good the prior's samples and the 3-D results are, beside the judge's own
ceiling. What is there already is not made again; results.md, results.json and pictures lie in the folder."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("evaluate")  # which imports what follows once the command line is read

from typing import Any

from omegaconf import DictConfig, OmegaConf

from text23d.door.overrides import check_passed_on
from text23d.errors import UserError
from text23d.settings import read
from text23d.studies.evaluation.study import Evaluation, evaluate
from text23d.studies.evaluation.table import results_table


def run(cfg: DictConfig) -> None:
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = read(Evaluation, values)
    check_passed_on([settings.overrides])
    results = evaluate(settings, cli.device(settings.device))
    print(results_table(results))
    if failed := results["failed"]:
        raise UserError(f"{len(failed)} runs are missing in {settings.folder}/results.md; the first: {failed[0]}")
