"""Pictures that Algorithm 1 draws from the prior where rendering is the identity, beside those of Heun's sampler, and
how far both are from the world."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from text23d.artifact.media import contact_sheet, on_white
from text23d.errors import UserError
from text23d.files import write_json, write_text
from text23d.judge import network
from text23d.meter import Meter
from text23d.method.algorithm import Algorithm1
from text23d.method.invert import FixedPoint
from text23d.method.langevin import LevelPreserving
from text23d.method.ode import integrate
from text23d.paths import slug
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import Condition
from text23d.prior.builtin.prior import BuiltinPrior
from text23d.prior.wrappers.guidance import Guided
from text23d.rng import generator
from text23d.settings import NonNegative, Seed, checked, number, shown, whole
from text23d.studies.markdown import table
from text23d.studies.records import Name, cached, check_settings
from text23d.studies.sampling.algorithm1 import algorithm1
from text23d.studies.sampling.independent import GROUPS, condition, distances, world_samples
from text23d.worlds.objects.world import Objects

BATCH = 64
WORLD_SEED, CAPTIONS_SEED = (Objects().splits[f"sampling_{name}"] for name in ("reference", "captions"))
"""Of the world's pictures that samplers are compared with, and of the captions and cameras that they draw from."""
WORLD, WORLD_FOLDER = "the world itself", "the-world"
SHOWN = 16


@dataclass(frozen=True)
class Sampler:
    """`levels` noise levels: by Algorithm 1 with Langevin's step h and this leak, or by Heun's sampler without both."""

    levels: Annotated[int, whole(2, 10_000)]
    h: Annotated[float, number(above=0, below=2)] | None = None
    leak: NonNegative | None = None

    def settings(self) -> dict[str, Any]:
        """Those that are given."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def evaluations(self, guidance: float) -> int:
        """Of the network, for one picture: Heun's last step has one; Algorithm 1 knows D'(x) when it asks for D(x)."""
        guided = guidance != 1
        return (2 * self.levels - 1) * (1 + guided) if self.h is None else self.levels * (3 if guided else 2)

    @torch.no_grad()
    def draw(self, prior: BuiltinPrior, c: Condition, noise: Tensor, guidance: float, seed: int) -> Tensor:
        """Pictures [B, 4, S, S] from as much noise of deviation 1; Langevin's own comes from `seed`."""
        levels, D = edm.sigma_steps(self.levels), Guided(prior.denoiser, guidance)
        x = levels[0] * noise
        if self.h is None or self.leak is None:
            return integrate(partial(D, c=c), x, levels, "heun")
        method = Algorithm1(FixedPoint(0), LevelPreserving(self.h), leak=self.leak)
        return algorithm1(D, prior.denoiser, x, levels, c, seed, method)


@dataclass(frozen=True)
class SamplerStudy:
    """`conf/sampling.yaml`.

    pictures       by each sampler, of captions, cameras and noises that are the same for all.
    references     pictures of the world, of others; a multiple of `pictures`.
    guidance       of the prior; 1 is none, and what the samplers are to draw is then the world itself.
    samplers       by name, as `Sampler`; the others are compared with the first.
    weights, judge files of the prior's and the judge's weights; None: those shipped.

    Raises UserError where these do not fit each other.
    """

    folder: Name
    pictures: Annotated[int, whole(2 * GROUPS)]
    references: Annotated[int, whole(2 * GROUPS)]
    guidance: NonNegative
    seed: Seed
    samplers: Annotated[dict[str, Any], Field(min_length=1, description="samplers by name, as {heun: {levels: 18}}")]
    device: str = "auto"
    weights: Name | None = None
    judge: Name | None = None

    def __post_init__(self) -> None:
        for name, count in {"pictures": self.pictures, "references": self.references}.items():
            if count % GROUPS:
                raise UserError(f"{name}={count}: expected a multiple of {GROUPS}")
        if self.references % self.pictures:
            raise UserError(f"references={self.references}: expected a multiple of pictures={self.pictures}")
        for name, sampler in self.chosen().items():
            if slug(name) != name or name == WORLD_FOLDER:
                raise UserError(f"samplers.{name}: expected a name in small letters, other than {WORLD_FOLDER}")
            if (sampler.h is None) != (sampler.leak is None):
                raise UserError(f"samplers.{name}={shown(self.samplers[name])}: expected both h and leak, or neither")

    def chosen(self) -> dict[str, Sampler]:
        return {name: checked(value, Sampler, f"samplers.{name}") for name, value in self.samplers.items()}


def compare_samplers(study: SamplerStudy, device: torch.device) -> dict[str, Any]:
    """Draw what is missing in the folder, compare, and write results.json, results.md and samples.png there.

    Returns the results. Raises UserError for weights that do not serve, and where the folder holds results of other
    settings.
    """
    folder, samplers = Path(study.folder), study.chosen()
    judge, prior = network.load(study.judge), builtin.load(study.weights, device, builtin.fast_precision(device))
    settings = {name: sampler.settings() for name, sampler in samplers.items()}
    how = {"prior": prior.card, "guidance": study.guidance, "seed": study.seed}
    check_settings(folder, {**how, "samplers": settings})
    pictures = {WORLD: draw_world(study, prior.shape[0])}
    examples = [world_samples(each, CAPTIONS_SEED, prior.shape[0]) for each in batches(study.pictures)]
    for name, sampler in samplers.items():
        pictures[name], meter = [], Meter().along(batches(study.pictures), f"{name}, batch")
        for numbers, (captions, _, rows) in zip(meter, examples, strict=True):
            draw = partial(draw_batch, prior, sampler, captions, rows, numbers.start, study)
            pictures[name].append(cached(folder / name / f"{numbers.start}.safetensors", draw))
    features = {name: torch.cat([judge.look(each).features for each in parts]) for name, parts in pictures.items()}
    world = features.pop(WORLD)
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "guidance": study.guidance,
        "pictures": study.pictures,
        "references": study.references,
        "samplers": {
            name: {**settings[name], "evaluations": samplers[name].evaluations(study.guidance), **figures}
            for name, figures in distances(features, world).items()
        },
    }
    write_json(folder / "results.json", results)
    write_text(folder / "results.md", samplers_table(results))
    sheet = [(name, list(on_white(parts[0][:SHOWN]))) for name, parts in pictures.items()]
    contact_sheet(sheet, folder / "samples.png")
    return results


def batches(count: int) -> list[range]:
    return [range(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]


def draw_world(study: SamplerStudy, size: int) -> list[Tensor]:
    """Pictures of the world in batches [B, 4, size, size]."""
    found = []
    for numbers in Meter().along(batches(study.references), "renders, batch"):
        path = Path(study.folder) / WORLD_FOLDER / f"{numbers.start}.safetensors"
        found.append(cached(path, lambda numbers=numbers: world_samples(numbers, WORLD_SEED, size)[1]))  # type: ignore[misc]
    return found


def draw_batch(
    prior: BuiltinPrior, sampler: Sampler, captions: list[str], rows: Tensor, first: int, study: SamplerStudy
) -> Tensor:
    """A picture for each caption and camera row, from the noises of pictures `first` on."""
    c = condition(prior, captions, rows)
    noise = torch.randn(len(rows), 4, *prior.shape, generator=generator(study.seed, 0, first, "picture"))
    return sampler.draw(prior, c, noise.to(c.views.device), study.guidance, study.seed + first)


def samplers_table(results: Mapping[str, Any]) -> str:
    """The results as markdown."""
    first = next(iter(results["samplers"]))
    rows = []
    for name, row in results["samplers"].items():
        settings = [f"{row[key]:g}" if key in row else "-" for key in ("levels", "h", "leak", "evaluations")]
        ratio = f"{row['ratio']:.2f} ± {row['ratio_error']:.2f}" if "ratio" in row else "1"
        rows.append([name, *settings, f"{row['kid']:.4f} ± {row['kid_error']:.4f}", ratio])
    lines = [
        f"# Pictures of the prior by each sampler, {results['date']}",
        "",
        f"{results['pictures']} pictures a sampler of the same captions, cameras and noises, guidance "
        f"{results['guidance']:g}; {results['references']} of the world, of others.",
        "",
        *table(["sampler", "levels", "h", "leak", "evaluations", "KID", f"ratio to {first}"], rows),
        "",
        "Standard errors by a jackknife over sixteen groups; the ratio's is of the same pictures left out.",
    ]
    return "\n".join(lines) + "\n"
