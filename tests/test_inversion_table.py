"""Inversion on the built-in prior: renders of the world and blurred ones, caption and camera told. With -s it prints
the table: evaluations, relative residual and noise ratio of each strategy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from text23d.cameras import Cameras
from text23d.method.invert import Backprop, FixedPoint, Inversion, Inverter, Naive, Ode
from text23d.method.noise import rms
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import Condition, known
from text23d.prior.builtin.prior import BuiltinPrior
from text23d.worlds.objects.world import Objects

COUNT, SEED = 8, 4242
OURS = FixedPoint(5, memory=2, shell=True)
TABLE: dict[str, Inverter] = {
    "naive": Naive(),
    "ode, perturbed": Ode(),
    "fixed_point": FixedPoint(2),
    "fixed_point, shell": FixedPoint(2, shell=True),
    "anderson": OURS,
    "anderson, 9 steps": FixedPoint(9, memory=2, shell=True),
    "backprop": Backprop(),
}
Seen = tuple[BuiltinPrior, Tensor, Condition]


@pytest.fixture(scope="module")
def seen() -> Seen:
    """The shipped prior, COUNT pictures of objects that nothing was trained on, and what D' is told of each."""
    prior = builtin.load(precision=builtin.fast_precision(torch.device("cpu")))
    world = Objects(pairs=False)
    made = [world.example(SEED, index, 1) for index in range(COUNT)]
    seen = [world.decode(each.arrays) for each in made]
    x0 = torch.cat([x for x, _ in seen])
    x0[COUNT // 2 :] = blurred(x0[COUNT // 2 :])
    words = [world.tokens(world.say(each.caption)) for each in made]
    return prior, x0, Condition(prior.vocabulary.encode(words), known(Cameras.cat([views for _, views in seen])))


def blurred(x: Tensor, deviation: float = 1.5) -> Tensor:
    """By a Gaussian of so many pixels."""
    weights = torch.from_numpy(np.exp(-(np.arange(-4, 5) ** 2) / (2 * deviation**2))).float()
    kernel = (weights[:, None] * weights / weights.sum() ** 2).expand(x.shape[1], 1, 9, 9)
    return F.conv2d(F.pad(x, (4, 4, 4, 4), mode="replicate"), kernel, groups=x.shape[1])


def invert(strategy: Inverter, seen: Seen, sigma: float) -> tuple[Inversion, Tensor]:
    """What it found, and the noise ratio of each picture."""
    prior, x0, c = seen
    n = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    expected = torch.tensor(prior.reference_rms(sigma))

    def denoise(x: Tensor, level: Tensor) -> Tensor:
        found: Any = prior.denoiser(x, level, c)
        return found  # type: ignore[no-any-return]

    found = strategy(denoise, x0, torch.tensor(sigma), n, expected)
    return found, rms(found.x - found.denoised) / expected


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
def test_a_tenth_of_backprops_evaluations_at_no_larger_residual_with_the_noise_of_real_data(
    seen: Seen, sigma: float
) -> None:
    rows = {name: invert(strategy, seen, sigma) for name, strategy in TABLE.items()}
    for name, (found, ratio) in rows.items():
        sharp, soft = found.residual.split(COUNT // 2)
        print(
            f"sigma {sigma:3}  {name:20} NFE {found.nfe:2}  residual {found.residual.mean():.3f} "
            f"(sharp {sharp.mean():.3f}, blurred {soft.mean():.3f})  "
            f"noise ratio {ratio.mean():.3f}, {ratio.min():.3f} to {ratio.max():.3f}"
        )
    backprop, ours = rows["backprop"][0], rows["anderson"][0]
    assert ours.nfe * 10 <= backprop.nfe
    assert ours.residual.mean() <= backprop.residual.mean()
    for name in ("anderson", "anderson, 9 steps"):
        assert rows[name][1].min() > 0.98 and rows[name][1].max() < 1.02, "every single picture"
    assert rows["anderson, 9 steps"][0].residual.mean() < ours.residual.mean()
