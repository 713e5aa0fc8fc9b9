"""python -m text23d.sampling: pictures that Algorithm 1 draws from the prior where rendering is the identity, beside
those of Heun's sampler, and how far both are from the world. What is there already is not made again."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("sampling")  # which imports what follows once the command line is read

from typing import Any

from omegaconf import DictConfig, OmegaConf

from text23d.settings import read
from text23d.studies.sampling.study import SamplerStudy, compare_samplers, samplers_table


def run(cfg: DictConfig) -> None:
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    study = read(SamplerStudy, values)
    print(samplers_table(compare_samplers(study, cli.device(study.device))), end="")
