"""python -m text23d.dataset prompts=file.txt: an object for each prompt, as data to learn from: posed pictures, masks,
depths, normals, meshes and captions, for nerfstudio and as WebDataset shards. The same command goes on."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("dataset")  # which imports what follows once the command line is read

import sys
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from text23d.door.overrides import check_passed_on
from text23d.door.prompts import read_prompts
from text23d.errors import UserError
from text23d.settings import read
from text23d.studies.dataset.plan import Plan
from text23d.studies.dataset.study import make_dataset


def run(cfg: DictConfig) -> None:
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    plan = read(Plan, {**values, "prompts": prompts_of(values["prompts"])})
    check_passed_on([plan.overrides])
    found = make_dataset(plan, cli.device(plan.device))
    counted = f"{found['objects']} of {len(plan.things)} objects, {found['shards']} shards"
    print(f"text23d: {counted}; see {plan.root / 'README.md'} and sheet.png", file=sys.stderr)
    if failed := found["failed"]:
        raise UserError(
            f"{len(failed)} of {len(plan.things)} objects are missing in {plan.root}; the same command tries again; "
            f"the first: {failed[0]}"
        )


def prompts_of(given: Any) -> Any:
    """The prompts of a file; or those of a list, which a command line has as text. Raises UserError where the file has
    none."""
    if not isinstance(given, str):
        return given
    if not given.lstrip().startswith("["):
        return read_prompts(Path(given))
    try:
        return yaml.safe_load(given)
    except yaml.YAMLError as error:
        raise UserError(f"prompts={given}: expected a file, or a list as in 'prompts=[a red car, a mug]'") from error
