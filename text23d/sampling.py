"""python -m text23d.sampling: pictures that Algorithm 1 draws from the prior where rendering is the identity, beside
those of Heun's sampler, and how far both are from the world. What is there already is not made again."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("sampling")  # which imports what follows once the command line is read

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from text23d.artifact.media import contact_sheet, on_white
from text23d.errors import UserError
from text23d.files import write_json, write_text
from text23d.judge import network
from text23d.method.algorithm import Algorithm1
from text23d.method.invert import FixedPoint
from text23d.method.langevin import LevelPreserving
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.prior import BuiltinPrior
from text23d.prior.wrappers.guidance import Guided
from text23d.rng import generator
from text23d.studies.evaluation import law, sources
from text23d.studies.evaluation.sampler import algorithm1

BATCH = 64
WORLD_SEED, CAPTIONS_SEED = 90_005, 90_006
"""Of the world's pictures that samplers are compared with, and of the captions and cameras that they draw from."""
SHOWN = 16


def run(cfg: DictConfig) -> None:
    samplers = check(cfg)
    folder, device = Path(cfg.folder), cli.device(cfg.device)
    judge, prior = network.load(cfg.judge), builtin.load(cfg.weights, device, builtin.fast_precision(device))
    how = {"prior": prior.card, "guidance": cfg.guidance, "seed": cfg.seed}
    sources.begun(folder, {**how, "samplers": samplers})
    captions, views = zip(
        *(law.of_the_world(each, CAPTIONS_SEED, prior.shape[0])[::2] for each in batches(cfg.pictures)), strict=True
    )
    drawn: dict[str, list[Tensor]] = {"the world itself": []}
    for numbers in tqdm(batches(cfg.references), "renders", unit="batch"):
        path = folder / "the-world" / f"{numbers.start}.safetensors"
        drawn["the world itself"].append(
            sources.kept(path, lambda numbers=numbers: law.of_the_world(numbers, WORLD_SEED, prior.shape[0])[1])  # type: ignore[misc]
        )
    for name, settings in samplers.items():
        drawn[name] = []
        for index, numbers in enumerate(tqdm(batches(cfg.pictures), name, unit="batch")):
            make = partial(draw, prior, captions[index], views[index], numbers.start, cfg.guidance, cfg.seed, settings)
            drawn[name].append(sources.kept(folder / name / f"{numbers.start}.safetensors", make))
    features = {name: torch.cat([judge.look(each).features for each in parts]) for name, parts in drawn.items()}
    world = features.pop("the world itself")
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "guidance": cfg.guidance,
        "pictures": cfg.pictures,
        "references": cfg.references,
        "samplers": {
            name: {**samplers[name], "evaluations": evaluations(samplers[name], cfg.guidance), **figures}
            for name, figures in law.distances(features, world).items()
        },
    }
    write_json(folder / "results.json", results)
    write_text(folder / "results.md", table(results))
    shown = [(name, list(on_white(parts[0][:SHOWN]))) for name, parts in drawn.items()]
    contact_sheet(shown, folder / "samples.png")
    print(table(results), end="", file=sys.stdout)


def batches(count: int) -> list[range]:
    return [range(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]


def draw(
    prior: BuiltinPrior,
    captions: list[str],
    views: Tensor,
    first: int,
    guidance: float,
    seed: int,
    settings: dict[str, Any],
) -> Tensor:
    """A picture for each caption and camera row by one sampler, from the noises of pictures `first` on."""
    c, levels = law.told(prior, captions, views), edm.sigma_steps(settings["levels"])
    noise = torch.randn(len(views), 4, *prior.shape, generator=generator(seed, 0, first, "picture"))
    x, main = levels[0] * noise.to(c.views.device), Guided(prior.denoiser, guidance)
    if "h" not in settings:
        return edm.heun(main, x, levels, c)
    method = Algorithm1(FixedPoint(0), LevelPreserving(settings["h"]), leak=settings["leak"])
    return algorithm1(main, prior.denoiser, x, levels, c, seed + first, method)


def evaluations(settings: dict[str, Any], guidance: float) -> int:
    """Of the network, for one picture: Heun's last step has one; Algorithm 1 knows D'(x) when it asks for D(x)."""
    guided = guidance != 1
    return settings["levels"] * (3 if guided else 2) if "h" in settings else (2 * settings["levels"] - 1) * (1 + guided)


def table(results: dict[str, Any]) -> str:
    """The results as markdown."""
    first = next(iter(results["samplers"]))
    lines = [
        f"# Pictures of the prior by each sampler, {results['date']}",
        "",
        f"{results['pictures']} pictures a sampler of the same captions, cameras and noises, guidance "
        f"{results['guidance']:g}; {results['references']} of the world, of others.",
        "",
        f"| sampler | levels | h | leak | evaluations | KID | ratio to {first} |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in results["samplers"].items():
        ratio = f"{row['ratio']:.2f} ± {row['ratio_error']:.2f}" if "ratio" in row else "1"
        lines.append(
            f"| {name} | {row['levels']} | {row.get('h', '-')} | {row.get('leak', '-')} | {row['evaluations']} "
            f"| {row['kid']:.4f} ± {row['kid_error']:.4f} | {ratio} |"
        )
    lines += ["", "Standard errors by a jackknife over sixteen groups; the ratio's is of the same pictures left out."]
    return "\n".join(lines) + "\n"


def check(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """The samplers. Raises UserError for settings out of range."""
    for name in ("pictures", "references"):
        if type(cfg[name]) is not int or cfg[name] < 2 * law.GROUPS or cfg[name] % law.GROUPS:
            raise UserError(f"{name}={cfg[name]}: expected a multiple of {law.GROUPS}, at least {2 * law.GROUPS}")
    if cfg.references % cfg.pictures:
        raise UserError(f"references={cfg.references}: expected a multiple of pictures={cfg.pictures}")
    if type(cfg.guidance) not in (int, float) or cfg.guidance < 0:
        raise UserError(f"guidance={cfg.guidance}: expected 0 or more; 1 is no guidance")
    if type(cfg.seed) is not int or cfg.seed < 0:
        raise UserError(f"seed={cfg.seed}: expected a whole number, at least 0")
    samplers: Any = OmegaConf.to_container(cfg.samplers)
    for name, settings in samplers.items():
        if not isinstance(settings, dict) or set(settings) not in ({"levels"}, {"levels", "h", "leak"}):
            raise UserError(f"samplers.{name}={settings}: expected {{levels: 18}} or {{levels: 18, h: 0.6, leak: 1}}")
        if type(settings["levels"]) is not int or settings["levels"] < 2:
            raise UserError(f"samplers.{name}.levels={settings['levels']}: expected a whole number, at least 2")
    return samplers
