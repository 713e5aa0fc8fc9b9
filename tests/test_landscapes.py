"""Landscapes: their captions, their surroundings without a seam, and the crops that they are seen in."""

from __future__ import annotations

import math
import re
from itertools import product

import numpy as np
import pytest
import torch

from text23d.crops import SPAN, Crops, directions, places
from text23d.errors import UserError
from text23d.worlds.landscapes import caption as grammar
from text23d.worlds.landscapes.caption import SCENES, TIMES, WEATHERS, Caption
from text23d.worlds.landscapes.noise import TILE, lookup, profile, tile
from text23d.worlds.landscapes.scenes import surroundings
from text23d.worlds.landscapes.world import Landscapes

WORLD = Landscapes(size=16)


def crop(azimuth: float, elevation: float = 0.0, flat: bool = True) -> Crops:
    return Crops(*(torch.tensor([float(each)]) for each in (azimuth, elevation, flat)))


# Captions


@pytest.mark.parametrize(
    ("prompt", "meant"),
    {
        "snowy mountains at sunset": Caption("mountains", "sunset", "snowy"),
        "A beach at sunset.": Caption("beach", "sunset"),
        "a foggy forest": Caption("forest", None, "foggy"),
        "a town at night": Caption("town", "night"),
        "a photo of the misty woods in the morning": Caption("forest", "dawn", "foggy"),
        "a village under a starry sky": Caption("town", "night"),
        "snow-covered alps": Caption("mountains", None, "snowy"),
        "fields in the rain": Caption("meadow", None, "rainy"),
        "a landscape at noon": Caption(None, "day"),
    }.items(),
)
def test_prompts_are_read(prompt: str, meant: Caption) -> None:
    assert grammar.parse(prompt) == meant


def test_every_caption_is_said_and_read_in_every_way() -> None:
    rng = np.random.default_rng(0)
    for scene, time, weather in product((None, *SCENES), (None, *TIMES), (None, *WEATHERS)):
        caption = Caption(scene, time, weather)
        if caption == Caption() or (weather == "snowy" and scene in grammar.SNOWLESS):
            continue
        for _ in range(6):
            assert grammar.parse(grammar.caption_text(caption, rng)) == caption
        assert grammar.parse(grammar.caption_text(caption)) == caption


@pytest.mark.parametrize(
    ("prompt", "problem"),
    {
        "": "prompt is empty",
        "a foggy forst": r"does not know the word 'forst' \(did you mean forest",
        "a beach and a forest": "names two scenes (beach and forest): ask for one, or give each its own region",
        "a foggy rainy town": "names two weathers",
        "a picture of the": "names no landscape",
        "a snowy beach": "no snow falls on a beach",
        "a town " + "x" * 500: "does not know the word 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'",
    }.items(),
)
def test_what_cannot_be_meant_is_told_in_one_line(prompt: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem if "\\" in problem else re.escape(problem)) as error:
        WORLD.read(prompt)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


# Surroundings


def test_noise_and_profiles_go_on_at_their_ends() -> None:
    """At the ends the steps are no larger than elsewhere; a tile later is the same."""
    line = profile(np.random.default_rng(0), 256, 2, 40, 1.0)
    steps = np.abs(np.diff(line))
    assert abs(line[0] - line[-1]) <= steps.max() and abs(line.std() - 1) < 1e-3
    for axis in (0, 1):
        values = tile(1.5)
        inside, around = np.abs(np.diff(values, axis=axis)), np.abs(values.take(0, axis) - values.take(-1, axis))
        assert around.mean() < 1.3 * inside.mean()
    x = np.arange(0, TILE, 7) / TILE
    assert np.array_equal(lookup(x, x, 1.5, np.zeros(2)), lookup(x + 1, x - 2, 1.5, np.zeros(2)))
    assert lookup(np.array([3.5 / TILE]), np.array([7.5 / TILE]), 1.5, np.zeros(2)) == tile(1.5)[7, 3]


@pytest.mark.parametrize("scene", SCENES)
def test_surroundings_have_no_seam(scene: str) -> None:
    """Behind, where the columns begin and end, neighbours differ as they do elsewhere."""
    worst, usual = [], []
    for index, time in enumerate(TIMES):
        seen = surroundings(scene, time, "clear", np.random.default_rng([4, index]), 256)
        assert seen.shape == (128, 256, 3) and seen.min() >= 0 and seen.max() <= 1 and seen.std() > 0.02
        steps = np.abs(np.diff(seen, axis=1, append=seen[:, :1])).mean((0, 2))
        worst.append(steps[-1])
        usual.append(steps.mean())
    assert np.mean(worst) < 1.6 * np.mean(usual)


def test_what_captions_say_is_seen() -> None:
    """Nights are darker than days, snow is brighter than grass, fog hides what is far, and the sun is in the middle."""

    def seen(scene: str, time: str, weather: str) -> np.ndarray:
        return np.mean([surroundings(scene, time, weather, np.random.default_rng(k), 256) for k in range(3)], 0)

    for scene in SCENES:
        assert seen(scene, "night", "clear").mean() < 0.6 * seen(scene, "day", "clear").mean()
    ground = slice(100, 128)
    assert seen("meadow", "day", "snowy")[ground].mean() > 1.5 * seen("meadow", "day", "clear")[ground].mean()
    assert seen("town", "day", "foggy")[58:66].std() < 0.6 * seen("town", "day", "clear")[58:66].std()
    sunset = seen("sea", "sunset", "clear")[:64].mean((0, 2))
    assert abs(int(sunset.argmax()) - 127.5) < 24, "columns of the sun's glow"


def test_the_same_seed_shows_the_same_whatever_else_is_made() -> None:
    first, again, other = WORLD.example(3, 5, 4), WORLD.example(3, 5, 4), WORLD.example(3, 6, 4)
    assert first.caption == again.caption and all(
        np.array_equal(first.arrays[name], again.arrays[name]) for name in WORLD.arrays
    )
    assert not np.array_equal(first.arrays["images"], other.arrays["images"])


def test_crops_of_a_world_are_cut_from_its_surroundings() -> None:
    """A perspective crop and a flat one from the same place agree in the middle, where their projections do."""
    from text23d.worlds.landscapes.world import crops

    canvas = surroundings("mountains", "day", "clear", np.random.default_rng(2), 1024)
    flat, seen = (crops(canvas, crop(30.0, 4.0, each), 64)[0] for each in (True, False))
    assert np.abs(flat - seen)[28:36, 28:36].mean() < 0.02 < np.abs(flat - seen)[:, :4].mean()


def test_judges_are_shown_the_horizon() -> None:
    views = [Landscapes(16, level=True)._crops(200, np.random.default_rng(k)) for k in range(2)]
    assert all((each[:, 2] == 1).all() and np.abs(each[:, 1]).max() < 15 for each in views)
    usual = WORLD._crops(400, np.random.default_rng(0))
    assert 0.4 < usual[:, 2].mean() < 0.7 and np.abs(usual[:, 1]).max() > 45


# Crops


@pytest.mark.parametrize("flat", [True, False])
def test_projection_inverts_the_rays(flat: bool) -> None:
    views = Crops(torch.tensor([-170.0, 20.0]), torch.tensor([-15.0, 24.0]), torch.full((2,), float(flat)))
    rays = views.rays((8, 8))
    torch.testing.assert_close(rays.norm(dim=-1), torch.ones(2, 8, 8))
    edge = (torch.arange(8) + 0.5) / 4 - 1
    expected = torch.stack(torch.meshgrid(edge, edge, indexing="xy"), -1)
    for index in range(2):
        torch.testing.assert_close(views.project(rays[index])[index], expected, atol=1e-4, rtol=0)


def test_flat_crops_are_windows_of_a_cylinder() -> None:
    """Columns are equal steps of azimuth and rows of the elevation's tangent; windows beside each other go on."""
    azimuth, elevation = places(crop(10.0, 5.0).rays((64, 64)))
    step = SPAN / 64
    expected = 10 + step * (torch.arange(64) - 31.5)
    torch.testing.assert_close(azimuth[0, 20], expected, atol=1e-4, rtol=0)
    tangent = torch.deg2rad(elevation[0, :, 7]).tan()
    torch.testing.assert_close(tangent.diff(), torch.full((63,), -math.radians(step)), atol=1e-5, rtol=0)
    assert tangent[[31, 32]].mean().item() == pytest.approx(math.tan(math.radians(5)), abs=1e-5)
    beside, _ = places(crop(10.0 + SPAN / 2, 5.0).rays((64, 64)))
    torch.testing.assert_close(beside[0, 0, :32], azimuth[0, 0, 32:], atol=1e-4, rtol=0)


def test_perspective_crops_look_where_they_say() -> None:
    for azimuth, elevation in ((0, 0), (90, 60), (-135, -80)):
        rays = crop(azimuth, elevation, False).rays((9, 9))
        found = places(rays[0, 4, 4])
        assert [each.item() for each in found] == pytest.approx([azimuth, elevation], abs=1e-3)
        corner = torch.rad2deg(torch.acos((rays[0, 4, 4] * rays[0, 4, 0]).sum())).item()
        assert corner == pytest.approx(math.degrees(math.atan(4 / 9 * math.radians(SPAN))), abs=1e-3)
    behind = crop(0, 0, False).project(torch.tensor([[0.0, -1.0, 0.0]]))
    assert behind.tolist() == [[[10.0, 10.0]]]


def test_directions_of_an_equirectangular_picture() -> None:
    azimuth, elevation = places(directions(4, 8))
    torch.testing.assert_close(azimuth[1], torch.arange(8) * 45.0 - 157.5, atol=1e-4, rtol=0)
    torch.testing.assert_close(elevation[:, 3], torch.tensor([67.5, 22.5, -22.5, -67.5]), atol=1e-4, rtol=0)


def test_what_a_prior_is_told_of_a_crop() -> None:
    views = Crops(torch.tensor([0.0, 90.0]), torch.tensor([0.0, -12.0]), torch.tensor([1.0, 0.0]))
    expected = [[0, 1, 0, 0, 1], [1, 0, -12 / 90, -math.tanh(1), -1]]
    torch.testing.assert_close(views.features(), torch.tensor(expected), atol=1e-6, rtol=0)
    both = Crops.cat([views.rows(slice(0, 1)), views.rows(torch.tensor([1]))])
    assert torch.equal(both.features(), views.features()) and both.words() == ["", ""] and len(both) == 2
