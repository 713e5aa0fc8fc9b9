"""The draft of an object: which iterations it has, what their targets are, and that its cameras come again."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import settings, tiny

from text23d.compose import compose
from text23d.engine.build import build_run
from text23d.engine.loop import advance
from text23d.errors import UserError
from text23d.method.draft import Draft, turning
from text23d.method.ode import integrate
from text23d.method.step import StepReport
from text23d.rng import generator, generators

DRAFT = ("method.iterations=6", "stage.begin=0.7", "stage.draft.end=0.7", "stage.draft.round=2")


def reports(prior: Path, *overrides: str, iterations: int) -> list[StepReport]:
    """What the first iterations of a run with these settings did."""
    seen = list[StepReport]()
    state, parts = tiny(prior, *overrides)
    parts = replace(parts, seen=seen.append)
    for _ in range(iterations):
        advance(state, parts)
    return seen


def test_it_goes_up_to_its_end_and_begins_anew_after_a_round() -> None:
    draft = Draft(end=0.4, round=3)
    assert draft.includes(0.0) and draft.includes(0.399) and not draft.includes(0.4)
    assert [draft.turn(iteration) for iteration in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert [replace(draft, round=0).turn(iteration) for iteration in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("noise", ["turning", "own"])
def test_targets_are_samples_from_the_same_noise_whenever_a_view_comes_again(noise: str, tiny_prior: Path) -> None:
    """By hand: x0 + sigma n down the ODE, with the noise of the run, or of the iteration whose turn it is, and with
    guidance at high levels alone."""
    own = (*DRAFT, f"stage.draft.noise={noise}")
    seen = reports(tiny_prior, *own, iterations=4)
    state, parts = tiny(tiny_prior, *own)
    for iteration, report in enumerate(seen):
        turn = iteration % 2
        cameras = parts.views.sample(2, generator(0, 0, turn, "cameras"))
        sigma = torch.tensor(parts.recipe.sigma(iteration / 5))
        if noise == "turning":
            n = turning(cameras.azimuth, torch.randn(3, 4, 64, 64, generator=generator(0, 0, 0, "draft")))
        else:
            streams = generators(0, [0, 1], turn, "inversion")
            n = torch.stack([torch.randn(4, 64, 64, generator=each) for each in streams])
        guide = parts.guide.conditioned_on(cameras)
        levels = torch.tensor([float(sigma) ** (1 - k / 4) * 0.05 ** (k / 4) for k in range(5)])
        high, low = levels[levels > 0.6], levels[levels <= 0.6]
        middle = torch.cat([high, low[:1]])
        x = integrate(guide.D, report.x0 + sigma * n, middle)
        plain = guide.with_guidance(1)
        x = plain(integrate(plain, x, low), levels[-1])
        torch.testing.assert_close(report.proposal.target, x, rtol=1e-3, atol=1e-4)
        assert report.proposal.nfe == 2 * len(high) + len(low)
    assert state.iteration == 0


def test_noise_of_each_view_is_white_and_mirrored_from_the_other_side() -> None:
    """Over many draws: covariances of a row's pixels with each other, from one view and from two."""
    a, width = 35.0, 6
    n = torch.randn(3, 60_000, 1, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    here, behind, aside = turning(torch.tensor([a, a + 180, a + 90], dtype=torch.float64), n)[:, :, 0]
    one, mirror = torch.eye(width, dtype=torch.float64), torch.eye(width, dtype=torch.float64).flip(0)
    close = partial(torch.testing.assert_close, rtol=0, atol=0.025)
    close(here.T @ here / len(here), one)
    close(aside.T @ aside / len(here), one)
    torch.testing.assert_close(behind, here.flip(-1))
    close(here.T @ aside / len(here), (one + mirror) / 2)


def test_a_view_from_the_right_sees_as_width_what_the_front_sees_as_depth() -> None:
    """What is odd in n turns as a point does: x = X cos(a) + Y sin(a) of a camera's axis to the right."""
    n = torch.randn(3, 2, 4, 8, generator=torch.Generator().manual_seed(0))
    odd = lambda x: (x - x.flip(-1)) / 2  # noqa: E731
    front, right, between = turning(torch.tensor([0.0, 90.0, 45.0]), n)
    torch.testing.assert_close(odd(front), odd(n[1]))
    torch.testing.assert_close(odd(right), odd(n[2]))
    torch.testing.assert_close(odd(between), (odd(n[1]) + odd(n[2])) / 2**0.5)
    torch.testing.assert_close(front - odd(front), right - odd(right))


def test_afterwards_everything_is_as_without_it(tiny_prior: Path) -> None:
    seen = reports(tiny_prior, *DRAFT, iterations=5)
    assert seen[3].proposal.nfe > seen[4].proposal.nfe
    assert (seen[4].proposal.residual < 1).all() and (seen[3].proposal.residual == 1).all()


@pytest.mark.parametrize("change", ["stage.draft=null", "method=sds"])
def test_it_is_left_out_where_it_is_not_asked_for_and_by_rivals(change: str, tiny_prior: Path) -> None:
    _, parts = tiny(tiny_prior, change)
    assert parts.fine is not None and parts.draft(0.0) is None and tiny(tiny_prior)[1].draft(0.0) is not None


def test_one_that_goes_on_when_windows_are_seen_is_refused(tiny_prior: Path) -> None:
    cfg: dict[str, Any] = settings(tiny_prior, "stage.begin=0.3", "stage.draft.end=0.4")
    with pytest.raises(UserError, match=r"stage\.draft\.end=0\.4 comes after stage\.begin=0\.3"):
        build_run(cfg, torch.device("cpu"))


def test_a_run_without_stages_takes_more_iterations_of_whole_views() -> None:
    staged, whole = (compose("config", ["prompt=a red car", *each]) for each in ((), ("stage=none",)))
    assert staged["method"]["iterations"] < whole["method"]["iterations"]
    assert compose("config", ["prompt=a red car", "method.iterations=7"])["method"]["iterations"] == 7
