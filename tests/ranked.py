"""Runs and trainings that one process does, or several ranks of it: `python ranked.py <folder> <prior>` as one of them.

What each rank ends with is left in the folder as <case>-<rank>.safetensors.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from tiny import IMAGE, MLP_IMAGE, tiny

from text23d import checkpoint
from text23d.engine.loop import optimise
from text23d.engine.meeting import meeting
from text23d.engine.ranks import ALONE, Ranks
from text23d.pictures import write_picture

STEPS = 20
FOUR, THREE = "method.views=4", "method.views=3"
SHORT = ("method.inversion.steps=2",)
BANK = ("views=bank", "views.count=6")
IMAGES = ("views=one", "method.views=3")
KNOWN = ("constraint.picture=<folder>/picture.png", "constraint.mask=<folder>/mask.png")
CASES: dict[str, tuple[str, ...]] = {
    "fixed point": (FOUR,),
    "fixed point, three views": (THREE, "method.inner=3"),
    "anderson": (THREE, "method/inversion=anderson", *BANK),
    "ode": (FOUR, "method/inversion=ode", *SHORT),
    "backprop": (THREE, "method/inversion=backprop", "method.inversion.iterations=2", *BANK),
    "naive": (FOUR, "method/inversion=naive", "method.renorm=true", "method.ema=0.9", *BANK),
    "bank": (THREE, *BANK, "method.ema=0.9"),
    "levels": (
        *(THREE, "method.levels=[1,0.5]", "method/sigma=random", "method/langevin=leimkuhler_matthews"),
        *("method.churn=2", *BANK),
    ),
    "sgd": (THREE, "method/optimizer=sgd", "method.lr_grid=0.2", "method.lr_mlp=0.02"),
    "sds": (THREE, "method=sds", "method/sigma=random"),
    "vsd": (THREE, "method=vsd"),
    "ism": (THREE, "method=ism", "method.strategy.steps=1"),
    "sdi": (THREE, "method=sdi", "method.strategy.steps=2"),
    "reference": (THREE, "constraint=reference", *KNOWN, "constraint.size=16"),
    "inpaint": (THREE, "constraint=inpaint", *KNOWN),
    "pixels replaced": (*IMAGE, *IMAGES, "method/optimizer=replace", "method.levels=[1,0.5]"),
    "pixels": (*IMAGE, *IMAGES, "constraint=inpaint", *KNOWN),
    "network": (*MLP_IMAGE, *IMAGES, "constraint=reference", *KNOWN, "constraint.size=16"),
}


def made(folder: Path, prior: Path, case: str, ranks: Ranks = ALONE, steps: int = STEPS) -> tuple[Any, Any]:
    """The state and parts of a case before its first iteration."""
    overrides = [each.replace("<folder>", str(folder)) for each in CASES[case]]
    few = ("prior.precision=float32", f"method.iterations={steps}")
    return tiny(prior, *overrides, *few, **({} if ranks.alone else {"ranks": ranks}))


def run(state: Any, parts: Any, steps: int = STEPS) -> list[dict[str, Any]]:
    """So many iterations; their figures."""
    figures = [line for line, _ in zip(optimise(state, parts), range(steps), strict=False)]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in figures]


def known(folder: Path) -> None:
    """The picture and the mask of the constrained cases."""
    picture = torch.ones(4, 16, 16)
    picture[0, 4:12, 4:12], picture[1:3] = -0.5, 0.2
    write_picture(folder / "picture.png", picture)
    mask = -torch.ones(4, 16, 16)
    mask[:3, :8], mask[3] = 1, 1
    write_picture(folder / "mask.png", mask)


def main(folder: Path, prior: Path) -> None:
    """Every case on the ranks, saved half-way and at the end; and, from what one process saved half-way, to the end."""
    with meeting() as ranks:
        for case in CASES:
            state, parts = made(folder, prior, case, ranks)
            figures = run(state, parts, STEPS // 2)
            checkpoint.save(folder / f"{case}-half-{ranks.rank}.safetensors", state.state())
            figures += run(state, parts)
            ending = {"state": state.state(), "figures": figures}
            checkpoint.save(folder / f"{case}-{ranks.rank}.safetensors", ending)
            half = folder / f"{case}-half-alone.safetensors"
            if half.exists():
                state, parts = made(folder, prior, case, ranks)
                if ranks.first:
                    state.load(checkpoint.load(half))
                run(state, parts)
                checkpoint.save(folder / f"{case}-resumed-{ranks.rank}.safetensors", state.state())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
