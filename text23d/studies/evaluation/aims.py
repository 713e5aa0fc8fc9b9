"""What results should reach, beside what the world's own objects do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

Fit = Mapping[str, float]

ROUGH, SOFT = 1.5, 1.5  # times the world's own
GENUS_RIGHT, ONE_BODY, FITTING = 33 / 36, 34 / 36, 34 / 36  # of the meshes
LEAST_IOU, LEAST_PSNR = 0.97, 27.0  # of a mesh that fits its NeRF
KIND, COLOUR, JANUS = 0.97, 0.97, 0.04
KID_RUNS, KID_SAMPLES = 0.009, 0.005


@dataclass(frozen=True)
class Aim:
    """A figure of the results and of the world's own objects, what it should be, and whether it is."""

    what: str
    own: str
    world: str
    aim: str
    reached: bool


def aims(figures: Mapping[str, Mapping[str, float]], meshes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """figures: by source, over all prompts. meshes: the MESH figures of "runs", those of each prompt's meshes, and of
    the "world", and how many meshes were "asked" for; empty where there are none."""
    found = of_meshes(meshes["runs"], meshes["world"], meshes["asked"]) if meshes else []
    return [asdict(each) for each in (*found, *of_pictures(figures))]


def of_meshes(runs: Mapping[str, Sequence[Fit]], world: Mapping[str, Fit], asked: int) -> Iterator[Aim]:
    """A mesh that is missing is none of those that are right."""
    pairs = [(fit, world[prompt]) for prompt, fits in runs.items() for fit in fits]
    for name, what, most, unit in (
        ("roughness", "mean angle between faces", ROUGH, lambda value: f"{value:.2f} degrees"),
        ("half_covered", "half-covered pixels", SOFT, lambda value: f"{100 * value:.1f} %"),
    ):
        own, other = (fmean(pair[index][name] for pair in pairs) for index in (0, 1))
        times = own / max(other, 1e-9)
        yield Aim(
            what, f"{unit(own)}, {times:.2f} x", unit(other), f"at most {most:g} x the world's own", times <= most
        )

    def counted(what: str, right: Callable[[Fit, Fit], bool], least: float, compared: bool = True) -> Aim:
        count = sum(right(own, other) for own, other in pairs)
        worlds = sum(right(other, other) for other in world.values())
        beside = f"{worlds} of {len(world)}" if compared else "-"
        return Aim(what, f"{count} of {asked}", beside, f"at least {least * asked:.3g}", count >= least * asked - 1e-9)

    yield counted("genus as the world's own of that prompt have", genus_right, GENUS_RIGHT, compared=False)
    yield counted("of one body", lambda own, _: own["bodies"] == 1, ONE_BODY)
    fit = f"silhouette IoU of {LEAST_IOU:g} and colours of {LEAST_PSNR:g} dB or more"
    yield counted(fit, lambda own, _: own["iou"] >= LEAST_IOU and own["psnr"] >= LEAST_PSNR, FITTING)


def genus_right(own: Fit, world: Fit) -> bool:
    """Whether it lies within what the world's own objects of that prompt have, meshed in the same way: handles and
    loops differ from one to the next, and where bars are thin, so does what a mesh of this resolution keeps open."""
    return world["genus_least"] <= own["genus"] <= world["genus_most"]


def of_pictures(figures: Mapping[str, Mapping[str, float]]) -> Iterator[Aim]:
    """Of the sources that there are."""
    worlds = figures["world"]
    for source, name, what, bound, sign in (
        ("runs", "kind", "3-D: kind right", KIND, 1),
        ("runs", "colour", "3-D: colour right", COLOUR, 1),
        ("runs", "janus", "3-D: Janus rate", JANUS, -1),
        ("runs", "kid", "3-D: KID", KID_RUNS, -1),
        ("samples", "kid", "samples of the prior: KID", KID_SAMPLES, -1),
    ):
        value = figures.get(source, {}).get(name)
        if value is not None:
            beside = f"{worlds[name]:.3f}" if name in worlds else "-"
            aim = f"at {'least' if sign > 0 else 'most'} {bound:g}"
            yield Aim(what, f"{value:.3f}", beside, aim, sign * value >= sign * bound)
