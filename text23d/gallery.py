"""python -m text23d.gallery runs=<folder>: one table and one picture of all finished runs below a folder."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("gallery")  # which imports what follows once the command line is read

import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from text23d.settings import read
from text23d.studies.gallery import Gallery, make_gallery


def run(cfg: DictConfig) -> None:
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    table, skipped = make_gallery(read(Gallery, values))
    print(table)
    for line in skipped:
        print(f"text23d: {' '.join(line.split())}", file=sys.stderr)
