"""python -m text23d.benchmark: measured speed and memory of the kernels, the networks and an iteration, beside their
torch twins and what the machine could do."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("benchmark")  # which imports what follows once the command line is read

from typing import Any

from omegaconf import DictConfig, OmegaConf

from text23d.settings import read
from text23d.studies.benchmark.study import Benchmark, benchmark


def run(cfg: DictConfig) -> None:
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = read(Benchmark, values)
    print(benchmark(settings, values, cli.device(settings.device)))
