"""Runs and trainings that one process does, or several ranks of it: `python ranked.py <folder> <prior>` as one of them.

What each rank ends with is left in the folder as <case>-<rank>.safetensors.
"""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from test_training import judge, prior, stopping
from tiny import IMAGE, MLP_IMAGE, settings, tiny

from text23d import checkpoint
from text23d.engine import training
from text23d.engine.build import retold
from text23d.engine.commands import Guidance, Prompt
from text23d.engine.following import dismiss, follow, lead, wait
from text23d.engine.loop import advance
from text23d.engine.meeting import meeting
from text23d.engine.ranks import ALONE, Ranks
from text23d.engine.steering import altered
from text23d.engine.thrift import thriftily
from text23d.errors import Diverged
from text23d.pictures import write_picture

STEPS, HALF = 8, 3
"""Iterations of a run, and steps of a training before it is gone on with."""
ODD = 7
"""Examples of a batch."""


def exact(folder: Path, batch: int) -> Any:
    """The training of a prior in float32, whatever is fast here."""
    state, give = prior(folder, batch)
    state.model.precision = torch.float32  # type: ignore[attr-defined]
    return state, give


TRAININGS = {"prior": exact, "judge": judge}
TWO, THREE = "method.views=2", "method.views=3"
SHORT = ("method.inversion.steps=2",)
BANK = ("views=bank", "views.count=6")
IMAGES = ("views=one", "method.views=3")
KNOWN = ("constraint.picture=<folder>/picture.png", "constraint.mask=<folder>/mask.png")
CASES: dict[str, tuple[str, ...]] = {
    "fixed point": (TWO,),
    "bank": (THREE, "method.inner=3", "method.ema=0.9", *BANK),
    "anderson": (THREE, "method/inversion=anderson", *BANK),
    "ode": (TWO, "method/inversion=ode", *SHORT),
    "backprop": (THREE, "method/inversion=backprop", "method.inversion.iterations=2", *BANK),
    "naive": (TWO, "method/inversion=naive", "method.renorm=true"),
    "levels": (
        *(THREE, "method.levels=[1,0.5]", "method/sigma=random", "method/langevin=leimkuhler_matthews"),
        *BANK,
    ),
    "sgd": (THREE, "method/optimizer=sgd", "method.lr_grid=0.2", "method.lr_mlp=0.02"),
    "sds": (THREE, "method=sds", "method/sigma=random"),
    "vsd": (THREE, "method=vsd"),
    "ism": (THREE, "method=ism", "method.strategy.steps=1"),
    "sdi": (THREE, "method=sdi", "method.strategy.steps=2"),
    "reference": (THREE, "constraint=reference", *KNOWN, "constraint.size=16"),
    "inpaint": (THREE, "constraint=inpaint", *KNOWN),
    "pixels": (*IMAGE, *IMAGES, "method/optimizer=replace", "method.levels=[1,0.5]"),
    "network": (*MLP_IMAGE, *IMAGES, "constraint=reference", *KNOWN, "constraint.size=16"),
}


def made(folder: Path, weights: Path, case: str, ranks: Ranks = ALONE) -> tuple[Any, Any]:
    """The state and parts of a case before its first iteration."""
    overrides = [each.replace("<folder>", str(folder)) for each in CASES[case]]
    few = ("prior.precision=float32", f"method.iterations={STEPS}")
    return tiny(weights, *overrides, *few, ranks=ranks)


def run(state: Any, parts: Any, steps: int = STEPS) -> list[dict[str, Any]]:
    """The iterations up to so many; their figures, where this rank leads."""
    if not parts.ranks.first:
        follow(state, parts)
        return []
    figures = []
    while state.iteration < steps:
        lead(state, parts.ranks)
        figures.append(advance(state, parts))
    dismiss(parts.ranks)
    return [{name: value for name, value in line.items() if name != "seconds"} for line in figures]


def known(folder: Path) -> None:
    """The picture and the mask of the constrained cases."""
    picture = torch.ones(4, 16, 16)
    picture[0, 4:12, 4:12], picture[1:3] = -0.5, 0.2
    write_picture(folder / "picture.png", picture)
    mask = -torch.ones(4, 16, 16)
    mask[:3, :8], mask[3] = 1, 1
    write_picture(folder / "mask.png", mask)


def alone(folder: Path, weights: Path) -> None:
    """Every case by one process, saved half-way and at the end."""
    for case in CASES:
        state, parts = made(folder, weights, case)
        leave(folder / f"{case}-half", state, run(state, parts, STEPS // 2))
        leave(folder / f"{case}-alone", state, run(state, parts))


def shared(folder: Path, weights: Path, ranks: Ranks) -> None:
    """Every case by these ranks; some from where one process was half-way, others left there to be gone on with."""
    for number, case in enumerate(CASES):
        state, parts = made(folder, weights, case, ranks)
        if number % 2:
            if ranks.first:
                state.load(checkpoint.load(folder / f"{case}-half.safetensors")["state"])
        else:
            leave(folder / f"{case}-half-{ranks.rank}", state, run(state, parts, STEPS // 2))
        figures = run(state, parts)
        leave(folder / f"{case}-{ranks.rank}", state, figures)


class Sick:
    """A denoiser that fails once at each of some calls, on one rank."""

    def __init__(self, denoiser: Any, failures: dict[int, str]) -> None:
        self.well, self.failures, self.calls = denoiser, failures, 0

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, c: Any = None) -> torch.Tensor:
        failure = self.failures.pop(self.calls, None)
        self.calls += 1
        if failure == "memory":
            raise MemoryError
        found: torch.Tensor = self.well(x, sigma, c)
        return found * torch.nan if failure else found


def sick(folder: Path, weights: Path, ranks: Ranks) -> None:
    """The second rank's prior fails in iteration 2 by its numbers and in iteration 3 by its memory."""
    state, parts = made(folder, weights, "bank", ranks)
    found: dict[str, Any] = {}
    if not ranks.first:
        aux = Sick(parts.guide.aux, {6: "nan", 13: "memory"})  # of five calls an iteration
        parts = replace(parts, guide=replace(parts.guide, aux=aux))
        follow(state, parts)
        assert not aux.failures
    while ranks.first and state.iteration < 4:
        lead(state, ranks)
        before = state.snapshot()
        try:
            thriftily(lambda sparing: advance(state, sparing), state, parts, lambda line: None)
        except Diverged as error:
            after = state.snapshot()
            same = all(torch.equal(after["phi"][name], each) for name, each in before["phi"].items())
            found = {"told": str(error), "restored": same and after["counts"] == before["counts"]}
            state.stream += 1
    if ranks.first:
        dismiss(ranks)
    phi = hashlib.sha256(b"".join(each.numpy().tobytes() for each in state.phi.state_dict().values())).hexdigest()
    ending = {"iteration": state.iteration, "level": state.thrift.level, "phi": phi}
    (folder / f"sick-{ranks.rank}.json").write_text(json.dumps(found | ending))


def steered(folder: Path, weights: Path, ranks: Ranks = ALONE) -> None:
    """After two of four iterations, and a pause, a person asks for something else."""
    few = (TWO, "prior.precision=float32")
    cfg, (state, parts) = settings(weights, *few), tiny(weights, *few, ranks=ranks)
    if not ranks.first:
        follow(state, parts, cfg)
    while ranks.first and state.iteration < 4:
        changes: list[Prompt | Guidance] = [Prompt("a blue mug"), Guidance(5.0)] if state.iteration >= 2 else []
        if state.iteration == 2:
            wait(ranks)
            wait(ranks)
            parts = retold(parts, altered(cfg, changes))
        lead(state, ranks, changes)
        advance(state, parts)
    if ranks.first:
        dismiss(ranks)
    leave(folder / f"steered-{'alone' if ranks.alone else ranks.rank}", state, [])


def leave(path: Path, state: Any, figures: list[dict[str, Any]]) -> None:
    checkpoint.save(path.with_name(f"{path.name}.safetensors"), {"state": state.state(), "figures": figures})


def trained_alone(folder: Path) -> None:
    """The trainings by one process, and what it has after HALF of their steps."""
    for name, make in TRAININGS.items():
        gradient(make, folder, f"{name}-gradient-alone", ALONE)
        for stop, file in ((HALF, f"{name}-half"), (None, f"{name}-alone")):
            state, give = make(folder, ODD)
            train_until(stop, state, give, folder / f"{file}.safetensors", ALONE)


def trained_together(folder: Path, ranks: Ranks) -> None:
    """The trainings by these ranks: the whole, the first half, and the second after one process did the first."""
    for name, make in TRAININGS.items():
        gradient(make, folder, f"{name}-gradient-{ranks.rank}", ranks)
        for stop, file in ((None, f"{name}-ranks"), (HALF, f"{name}-half-ranks"), (None, f"{name}-half")):
            state, give = ranks.in_turn(partial(make, folder, ODD))
            path = folder / f"{file}.safetensors"
            if ranks.first and path.exists():
                training.load(path, state)
            train_until(stop, state, give, path, ranks)


def gradient(make: Any, folder: Path, file: str, ranks: Ranks) -> None:
    """The first step's loss, and its gradient by the names of the parameters."""
    state, give = ranks.in_turn(partial(make, folder, ODD))
    loss = training.accumulate(state, give(0), ranks)
    grads = {name: each.grad for name, each in training.trained(state) if each.grad is not None}
    checkpoint.save(folder / f"{file}.safetensors", {"loss": loss, "grads": grads})


def train_until(stop: int | None, state: Any, give: Any, file: Path, ranks: Ranks) -> None:
    losses: list[float] = []
    with suppress(KeyboardInterrupt):
        training.train(
            state, give if stop is None else stopping(give, stop, KeyboardInterrupt()), file, losses.append, ranks=ranks
        )
    assert state.step == (stop or 6) and losses


if __name__ == "__main__":
    given = Path(sys.argv[1]), Path(sys.argv[2])
    with meeting() as ranks:
        if ranks.alone:
            trained_alone(given[0])
            alone(*given)
            steered(*given)
        else:
            trained_together(given[0], ranks)
            sick(*given, ranks)
            steered(*given, ranks)
            shared(*given, ranks)
