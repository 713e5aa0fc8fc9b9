"""Windows into views: their rays, what is given of the whole, the world of them, and the stage of a run that sees
nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import settings, tiny

from text23d.cameras import Cameras, orbit
from text23d.closeups import SHARE, Closeups, draw_corners
from text23d.engine.build import build_run
from text23d.engine.loop import advance
from text23d.errors import UserError
from text23d.interlaced import Interlaced
from text23d.method.schedule import LogLinear
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import Condition, on_views
from text23d.prior.builtin.training import TrainConfig, TrainState
from text23d.representation.views import CameraSampler
from text23d.tasks.fine import Fine
from text23d.worlds.objects.closeups import NOISE, ObjectCloseups, softened
from text23d.worlds.objects.render import Light, render
from text23d.worlds.objects.scene import draw_caption, make

SIDE = 16
CORNERS = torch.tensor([[0, 0], [5, 12], [16, 16]]) / (SIDE / SHARE)
"""On the pixels of the whole at twice the windows' side."""


def windows(whole: torch.Tensor) -> Closeups:
    return Closeups(CameraSampler().sample(3, torch.Generator().manual_seed(0)), CORNERS, whole)


def cut(whole: Any, of: int, side: int = SIDE) -> Any:
    """The pixels [.., side, side, ..] of window `of` out of the whole at twice the side, rows first."""
    column, row = (CORNERS[of] * (side / SHARE)).round().int().tolist()
    return whole[row : row + side, column : column + side]


def test_rays_are_those_of_the_whole_at_twice_the_resolution() -> None:
    views = windows(torch.zeros(3, 4, 8, 8))
    origins, directions = views.rays((SIDE, SIDE))
    for index, (origin, direction) in enumerate(zip(*views.cameras.rays((2 * SIDE, 2 * SIDE)), strict=True)):
        torch.testing.assert_close(origins[index], cut(origin, index), rtol=0, atol=1e-6)
        torch.testing.assert_close(directions[index], cut(direction, index), rtol=0, atol=1e-6)


def test_a_ramp_is_given_as_it_is_seen_through_the_window() -> None:
    """Linear interpolation keeps a linear picture: column + 10 row, in pixel centres of the whole."""
    place = (torch.arange(32) + 0.5) / 32
    whole = (place[None, :] + 10 * place[:, None]).expand(3, 1, 32, 32)
    given = windows(whole).given((8, 8))
    at = CORNERS[:, :, None] + SHARE * ((torch.arange(8) + 0.5) / 8)
    x, y = at[:, 0, None, :].expand(3, 8, 8), at[:, 1, :, None].expand(3, 8, 8)
    inside = (slice(None), slice(1, -1), slice(1, -1))  # at the whole's own edge its last pixel goes on
    torch.testing.assert_close(given[:, 0][inside], (x + 10 * y)[inside], rtol=0, atol=1e-5)
    torch.testing.assert_close(given[:, 1:], torch.stack([2 * x - 1, 2 * y - 1], 1), rtol=0, atol=1e-6)


def test_windows_lie_inside_and_everywhere() -> None:
    corners = draw_corners(20_000, torch.Generator().manual_seed(0))
    assert corners.min() >= 0 and corners.max() <= 1 - SHARE
    torch.testing.assert_close(corners.mean(0), torch.full((2,), (1 - SHARE) / 2), rtol=0, atol=5e-3)


def test_rows_and_devices_keep_what_belongs_together() -> None:
    views = windows(torch.arange(3.0)[:, None, None, None].expand(3, 4, 8, 8))
    for some in (views.rows(slice(1, 3)), views.rows(torch.tensor([1, 2])).to("cpu")):
        assert len(some) == 2 and torch.equal(some.corner, CORNERS[1:]) and some.whole[0, 0, 0, 0] == 1
        assert torch.equal(some.features(), views.features()[1:]) and some.words() == views.words()[1:]


# The world of them


def test_an_example_is_the_same_object_seen_through_a_window() -> None:
    rng = np.random.default_rng(0)
    thing = make(draw_caption(0, rng), rng)
    cameras = CameraSampler().sample(3, torch.Generator().manual_seed(0))
    seen = render(thing, Closeups(cameras, CORNERS, torch.zeros(3, 4, 8, 8)), Light(), SIDE)
    for index, picture in enumerate(render(thing, cameras, Light(), 2 * SIDE)):
        assert np.abs(seen[index].astype(int) - cut(picture, index)).max() <= 1


def test_what_is_given_in_training_is_the_window_but_not_sharp() -> None:
    """Averaged down to the whole's resolution, the window is what is given, up to blur and noise."""
    world = ObjectCloseups(size=32)
    x, views = world.decode(world.example(1, 3, 6).arrays)
    given = torch.nn.functional.avg_pool2d(views.given((32, 32))[:, :4], 4)
    error = (given - torch.nn.functional.avg_pool2d(x, 4)).square().mean().sqrt()
    assert 0.01 < error < 0.3 and x.var() > 0.05


def test_softening_blurs_and_disturbs_up_to_its_limits() -> None:
    images = np.full((400, 8, 8, 4), 128, np.uint8)
    spread = softened(images, np.random.default_rng(0)).astype(float).reshape(400, -1).std(1) * 2 / 255
    assert spread.max() < 1.1 * NOISE and spread.min() < 0.05 * NOISE
    edge = np.zeros((400, 8, 8, 4), np.uint8)
    edge[:, :, 4:] = 255
    step = softened(edge, np.random.default_rng(0))[:, 2:6, :, 0].astype(float).mean(1)
    assert (np.diff(step, axis=1).max(1) / 255).min() < 0.35 and (np.diff(step, axis=1).max(1) / 255).max() > 0.9


def test_a_showcase_is_of_objects_through_the_middle() -> None:
    captions, views = ObjectCloseups(size=8).showcase()
    assert len(captions) == len(views) and (views.corner == (1 - SHARE) / 2).all()
    assert ((views.whole[:, 3] > 0).flatten(1).any(1)).all()


# The network that is given something


@pytest.fixture
def conditions() -> tuple[Condition, Condition]:
    """Of 3 windows with what is given, and of their cameras."""
    text = torch.ones(3, 24, dtype=torch.int64)
    views = windows(torch.rand(3, 4, 64, 64, generator=torch.Generator().manual_seed(1)))
    return on_views(text, views, (64, 64)), on_views(text, views.cameras, (64, 64))


def test_a_network_that_begins_from_one_without_sees_the_same(
    tiny_prior: Path, conditions: tuple[Condition, Condition]
) -> None:
    given, plain = conditions
    old = builtin.load(tiny_prior)
    wider = replace(old.denoiser.network.config, given=6)
    state = TrainState.fresh(wider, TrainConfig(), torch.device("cpu"))
    state.begin_from(tiny_prior, old.vocabulary.words)
    x = torch.randn(3, 4, 64, 64, generator=torch.Generator().manual_seed(2))
    for model in (state.model, state.average):
        model.precision = torch.float32
        expected = old.denoiser(x, torch.tensor(1.0), plain)
        torch.testing.assert_close(model(x, torch.tensor(1.0), given), expected, rtol=1e-4, atol=1e-4)


def test_what_is_given_matters_to_a_network_that_takes_it(
    tiny_prior: Path, conditions: tuple[Condition, Condition]
) -> None:
    given, _ = conditions
    fine = builtin.load(tiny_prior.with_name("prior_fine.safetensors")).denoiser
    x, other = torch.zeros(3, 4, 64, 64), replace(given, given=-given.given)  # type: ignore[operator]
    assert not torch.allclose(fine(x, torch.tensor(1.0), given), fine(x, torch.tensor(1.0), other))
    for hidden in (given.unconditional(), given.without_views(), given.dropped(*torch.ones(2, 3).bool())):
        assert hidden.given is given.given
    joined = Condition.cat([given.rows(slice(0, 1)), given.rows(slice(1, 3))])
    assert torch.equal(joined.given, given.given)  # type: ignore[arg-type]


def test_a_network_refuses_what_it_is_not_given_or_cannot_take(
    tiny_prior: Path, conditions: tuple[Condition, Condition]
) -> None:
    given, plain = conditions
    x, sigma = torch.zeros(3, 4, 64, 64), torch.tensor(1.0)
    with pytest.raises(UserError, match="nothing given"):
        builtin.load(tiny_prior).denoiser(x, sigma, given)
    with pytest.raises(UserError, match="6 channels of what is given"):
        builtin.load(tiny_prior.with_name("prior_fine.safetensors")).denoiser(x, sigma, plain)


# The stage of a run


def test_the_stage_has_a_progress_of_its_own() -> None:
    stage = Fine(None, 0.6, LogLinear(1.0, 0.5))  # type: ignore[arg-type]
    assert stage.progress(0.59) is None
    assert stage.progress(0.6) == 0 and stage.progress(0.8) == pytest.approx(0.5) and stage.progress(1.0) == 1


def test_the_last_iterations_see_windows_of_what_there_is(tiny_prior: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, parts = tiny(tiny_prior, "stage.begin=0.5", "stage.sigma.start=0.9", "stage.sigma.end=0.3")
    kind: Any = type(state.phi)
    seen, render = list[Any](), kind.render

    def watched(phi: Any, views: Any, shape: Any, generator: Any = None) -> Any:
        seen.append(views.views if isinstance(views, Interlaced) else views)
        return render(phi, views, shape, generator)

    monkeypatch.setattr(kind, "render", watched)
    figures = []
    for _ in range(4):
        seen.append(state.iteration)
        figures.append(advance(state, parts))
    kinds = [type(each) for each in seen if not isinstance(each, int)]
    assert kinds[: len(kinds) // 2] == [Cameras] * (len(kinds) // 2)
    assert kinds[len(kinds) // 2 :] == [Closeups] * (len(kinds) // 2)
    assert [each["sigma"] for each in figures[2:]] == pytest.approx([0.9 * (0.3 / 0.9) ** (1 / 3), 0.3])
    shown = [each for each in seen if isinstance(each, Closeups)]
    assert all(each.whole.shape[2:] == parts.guide.shape for each in shown)
    corners = [{tuple(corner) for each in part for corner in each.corner.tolist()} for part in halves(shown)]
    assert len(corners[0]) == len(corners[1]) == 2 and not corners[0] & corners[1]


def halves(items: list[Any]) -> tuple[list[Any], list[Any]]:
    return items[: len(items) // 2], items[len(items) // 2 :]


@pytest.mark.parametrize("change", ["method=vsd", "views=bank", "representation=image"])
def test_runs_that_know_whole_views_only_leave_it_out_or_refuse_it(change: str, tiny_prior: Path) -> None:
    cfg = settings(tiny_prior, change)
    assert not cfg["stage"] and tiny(tiny_prior, change)[1].fine is None
    asked = settings(tiny_prior)["stage"]
    with pytest.raises(UserError, match=r"stage=fine: expected an object .* use stage=none"):
        build_run({**cfg, "stage": asked}, torch.device("cpu"))


def test_pictures_of_the_whole_are_what_the_cameras_see(tiny_prior: Path) -> None:
    state, parts = tiny(tiny_prior)
    assert parts.fine is not None
    phi: Any = state.phi
    cameras = orbit(4)
    some = parts.fine.look(phi, cameras.rows(slice(1, 3)), 4, torch.tensor([1, 2]), torch.Generator())
    every = parts.fine.look(phi, cameras, 4, torch.arange(4), torch.Generator())
    assert torch.equal(some.corner, every.corner[1:3]) and torch.equal(some.whole, every.whole[1:3])
    assert torch.equal(every.whole, phi.render_image(cameras, parts.guide.shape))
