"""The toy box: solids and pictures against closed forms, colours, cameras and contact sheets."""

from __future__ import annotations

import colorsys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from imageio.v3 import imread

from text23d import world as verb
from text23d.cameras import Cameras
from text23d.errors import UserError
from text23d.world import main
from text23d.worlds.objects import sheet
from text23d.worlds.objects.colours import COLOURS, IVORY, TYRE, brightness, glass, is_pale, jittered, shaded
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.parts import OBJECT_RADIUS, Mesh, Object, Part, box, ellipsoid, extrude, normalise
from text23d.worlds.objects.render import Light, corner_normals, render, sample_light
from text23d.worlds.objects.views import DISTANCE, ELEVATION, FOV, cameras_from, sample_cameras, to_rows


def one(mesh: Mesh, colour: tuple[float, float, float] = (0.5, 0.25, 0.75)) -> Object:
    return Object((Part("only", mesh, colour),))


def camera(azimuth: float, elevation: float, distance: float = 3.0, fov: float = 40.0) -> Cameras:
    return cameras_from(np.array([[azimuth, elevation, distance, fov]]))


# Solids


def test_volumes_equal_closed_forms() -> None:
    def volume(mesh: Mesh) -> float:
        a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
        return float((a * np.cross(b, c)).sum() / 6)

    assert volume(box(1, 2, 3)) == pytest.approx(6)
    assert volume(box(1, 1, 1, taper=(0.5, 0.5))) == pytest.approx((1 + 0.5 + 0.25) / 3)
    assert volume(extrude([(0, 0), (2, 0), (0, 2)], -1, 2, "y")) == pytest.approx(6)
    assert volume(ellipsoid(1, 2, 3, sides=96)) == pytest.approx(4 / 3 * np.pi * 6, rel=4e-3)
    assert volume(box(1, 2, 3).scaled(-1, 1, 2)) == pytest.approx(12)


def test_normalise_centres_the_box_and_reaches_the_radius() -> None:
    thing = normalise(Object((Part("a", box(1, 2, 4).moved(5, -3, 2), TYRE), Part("b", box(1, 1, 1), IVORY))))
    everything = np.concatenate([part.mesh.vertices for part in thing.parts])
    assert np.linalg.norm(everything, axis=1).max() == pytest.approx(OBJECT_RADIUS)
    np.testing.assert_allclose(everything.min(0), -everything.max(0), atol=1e-12)
    sizes = [np.ptp(part.mesh.vertices, axis=0) for part in thing.parts]
    np.testing.assert_allclose(sizes[0] / sizes[1], (1, 2, 4))


def test_turned_is_counter_clockwise_about_each_axis() -> None:
    for axis, before, after in (("x", 1, 2), ("y", 2, 0), ("z", 0, 1)):
        unit = np.eye(3)
        turned = Mesh(unit[[before]], np.zeros((0, 3), np.int64)).turned(axis, 90).vertices[0]
        np.testing.assert_allclose(turned, unit[after], atol=1e-15)


def test_normals_are_smooth_on_balls_and_sharp_on_boxes() -> None:
    ball = ellipsoid(1, 1, 1, sides=24)
    radial = ball.vertices[ball.faces]
    assert (corner_normals(ball) * radial).sum(-1).min() > np.cos(np.deg2rad(4))  # flat facets would be 8 off
    cube = box(1, 1, 1)
    assert np.abs(corner_normals(cube)).max(-1).min() == pytest.approx(1, abs=1e-6)


# Pictures


@pytest.mark.parametrize("point", [(0.5, -0.3, 0.4), (-0.6, 0.2, -0.3), (0.1, 0.5, 0.5)])
@pytest.mark.parametrize("view", [(0.0, 0.0), (90.0, 20.0), (215.0, -15.0), (330.0, 60.0)])
def test_a_point_lands_where_a_pinhole_puts_it(point: tuple[float, float, float], view: tuple[float, float]) -> None:
    """Against a second derivation: turn the world so that the camera sits on -Y, then divide by depth."""
    azimuth, elevation = np.deg2rad(view)
    x, y, z = point
    x, y = x * np.cos(azimuth) + y * np.sin(azimuth), -x * np.sin(azimuth) + y * np.cos(azimuth)
    y, z = y * np.cos(elevation) - z * np.sin(elevation), y * np.sin(elevation) + z * np.cos(elevation)
    focal = 32 / np.tan(np.deg2rad(20))
    expected = 32 + focal * x / (y + 3), 32 - focal * z / (y + 3)
    alpha = render(one(ellipsoid(0.08, 0.08, 0.08).moved(*point)), camera(*view))[0, ..., 3].astype(float)
    row, column = np.indices((64, 64)) + 0.5
    assert (alpha * column).sum() / alpha.sum() == pytest.approx(expected[0], abs=0.2)
    assert (alpha * row).sum() / alpha.sum() == pytest.approx(expected[1], abs=0.2)


def test_a_ball_covers_the_area_of_its_cone() -> None:
    alpha = render(one(ellipsoid(0.8, 0.8, 0.8, sides=64)), camera(40, 25))[0, ..., 3]
    radius = np.tan(np.arcsin(0.8 / 3)) / np.tan(np.deg2rad(20))
    assert alpha.mean() / 255 == pytest.approx(np.pi * radius**2 / 4, rel=0.01)


@pytest.mark.parametrize(("azimuth", "normal"), [(0, (0, -1, 0)), (90, (1, 0, 0)), (180, (0, 1, 0)), (270, (-1, 0, 0))])
def test_a_wall_has_lamberts_shade(azimuth: float, normal: tuple[int, int, int]) -> None:
    light = Light()
    facing = max(0.0, sum(a * b for a, b in zip(normal, light.sun, strict=True)))
    shade = (light.sky + light.ground) / 2 + light.strength * facing
    pixel = render(one(box(1, 1, 1).moved(z=-0.5)), camera(azimuth, 0), light)[0, 32, 32]
    np.testing.assert_allclose(pixel, [*(255 * shade * c for c in (0.5, 0.25, 0.75)), 255], atol=0.51)


def test_light_variation_is_off_at_zero_and_grows() -> None:
    still = sample_light(np.random.default_rng(0), 0.0)
    np.testing.assert_allclose(still.sun, np.asarray(Light().sun) / np.linalg.norm(Light().sun), atol=1e-9)
    assert (still.strength, still.sky, still.ground) == (Light().strength, Light().sky, Light().ground)

    def spread(variation: float) -> float:
        suns = np.array([sample_light(np.random.default_rng(seed), variation).sun for seed in range(40)])
        np.testing.assert_allclose(np.linalg.norm(suns, axis=1), 1)
        return float(suns.std(0).sum())

    assert 0.1 < spread(1.0) < spread(3.0)


def test_what_is_in_front_hides_what_is_behind() -> None:
    near, far = (
        Part("near", box(0.4, 0.4, 0.4).moved(0, -0.3, -0.2), IVORY),
        Part("far", box(1, 0.4, 1).moved(0, 0.3, -0.5), TYRE),
    )
    flat = Light(strength=0.0, sky=1.0, ground=1.0)
    front, back = (render(Object((near, far)), camera(azimuth, 0), flat, 33)[0, 16, 16, :3] for azimuth in (0, 180))
    np.testing.assert_allclose(front, 255 * np.array(IVORY), atol=0.51)
    np.testing.assert_allclose(back, 255 * np.array(TYRE), atol=0.51)


# Colours


def nearest_word(rgb: np.ndarray) -> str:
    """The colour word nearest in (chroma-weighted hue, saturation, value), a cone around the grey axis."""

    def cone(colour: tuple[float, ...]) -> np.ndarray:
        h, s, v = colorsys.rgb_to_hsv(*colour)
        return np.array([s * v * np.cos(2 * np.pi * h), s * v * np.sin(2 * np.pi * h), v])

    at = cone(tuple(rgb))
    return min(COLOURS, key=lambda word: float(np.linalg.norm(at - cone(COLOURS[word]))))


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_are_told_apart_however_they_vary_and_are_lit(colour: str) -> None:
    rng = np.random.default_rng(0)
    drawn = [jittered(colour, rng) for _ in range(300)]
    assert all(0 <= channel <= 1 for each in drawn for channel in each) and len(set(drawn)) == 300
    assert {nearest_word(np.array(each)) for each in drawn} == {colour}
    for each in drawn[:3]:
        ball = render(one(ellipsoid(0.8, 0.8, 0.8), each), sheet.ring(3), size=24)
        seen = ball[ball[..., 3] == 255][:, :3].mean(0) / 255
        assert nearest_word(seen / 0.85) == colour, "a shade below 1 darkens every colour alike"


def test_neutral_colours_show_against_the_body() -> None:
    assert is_pale(COLOURS["white"]) and not any(is_pale(rgb) for name, rgb in COLOURS.items() if name != "white")
    for rgb in COLOURS.values():
        assert abs(brightness(glass(rgb)) - brightness(rgb)) > 0.1
    assert shaded((0.5, 0.2, 0.9), 0.5) == pytest.approx((0.25, 0.1, 0.45))
    assert shaded((0.5, 0.2, 0.9), 2.0) == pytest.approx((1.0, 0.4, 1.0))
    assert brightness((1.0, 1.0, 1.0)) == pytest.approx(1)


# Cameras


def test_cameras_are_in_range_deterministic_and_round_trip() -> None:
    first, again = (sample_cameras(500, np.random.default_rng(8)) for _ in range(2))
    rows = to_rows(first)
    np.testing.assert_array_equal(rows, to_rows(again))
    np.testing.assert_array_equal(rows, to_rows(cameras_from(rows)))
    for column, (low, high) in enumerate([(0.0, 360.0), ELEVATION, DISTANCE, FOV]):
        assert low <= rows[:, column].min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < rows[:, column].max() <= high
    assert first.azimuth.dtype == torch.float32


# Contact sheets


def test_pictures_over_grey_side_by_side() -> None:
    """Against the definition, colour + (1 - alpha) grey, and against a loop."""
    rng = np.random.default_rng(0)
    alpha = rng.integers(0, 256, (6, 2, 3, 1))
    pictures = np.concatenate([(rng.random((6, 2, 3, 3)) * alpha).astype(int), alpha], -1).astype(np.uint8)
    grey = sheet.on_grey(pictures)
    np.testing.assert_allclose(grey, pictures[..., :3] + (1 - alpha / 255) * sheet.BACKGROUND, atol=0.51)
    whole = sheet.grid(grey, 3)
    assert whole.shape == (4, 9, 3)
    for index in range(6):
        row, column = divmod(index, 3)
        np.testing.assert_array_equal(whole[2 * row : 2 * row + 2, 3 * column : 3 * column + 3], grey[index])


def test_a_ring_is_even() -> None:
    ring = sheet.ring(4, elevation=10, start=20)
    np.testing.assert_allclose(to_rows(ring), [(20 + 90 * i, 10, 3, 40) for i in range(4)])


@pytest.fixture
def few_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets of five kinds and a dozen captions: sooner drawn."""
    monkeypatch.setattr(sheet, "KINDS", dict(list(KINDS.items())[:5]))
    monkeypatch.setitem(verb.SHEETS, "captions", partial(sheet.captioned, columns=4, rows=3))


@pytest.mark.usefixtures("few_kinds")
def test_sheets_are_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"colours": (5, len(COLOURS)), "turn": (5, 12), "captions": (3, 4)}
    assert set(sizes) == set(verb.SHEETS)
    for show, (rows, columns) in sizes.items():
        path = tmp_path / "new" / f"{show}.png"
        assert main(["--out", str(path), "--size", "4", "--show", show]) == 0
        picture = imread(path)
        assert picture.shape == (4 * rows, 4 * columns, 3)
        cells = picture.reshape(rows, 4, columns, 4, 3).astype(int) - sheet.BACKGROUND
        assert (np.abs(cells).max((1, 3, 4)) > 8).all(), "something is in every cell"
        assert capsys.readouterr().out == f"{path}\n"
    assert sorted(path.stem for path in (tmp_path / "new").iterdir()) == sorted(sizes)


@pytest.mark.usefixtures("few_kinds")
def test_the_seed_chooses_the_objects() -> None:
    first, again, other = (sheet.turntables(seed, 4, 2) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "{}/file/sheet.png"], "cannot write"),
        (["--out", "{}/sheet.jpg"], "a contact sheet is a PNG"),
        (["--seed", "-1"], "got seed -1"),
        (["--size", "0"], "got seed 0, size 0"),
        (["--size", "513"], "size 513: seed must be 0 or more, size 1 to 512"),
        (["--size", "many"], "argument --size: invalid int value: 'many'"),
        (["--show", "all"], "argument --show: invalid choice: 'all'"),
        (["--shape", "3"], "unrecognized arguments: --shape 3"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(verb.SHEETS, "colours", lambda seed, size: np.zeros((1, 1, 3), np.uint8))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as raised:
        main([argument.format(tmp_path) for argument in arguments])
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
