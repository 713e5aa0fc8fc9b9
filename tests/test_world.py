"""The toy box: solids, pictures against closed forms, captions and prompts, and the data set's promises."""

from __future__ import annotations

import colorsys
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from text23d.contracts import Cameras, UserError
from text23d.world import caption as captions
from text23d.world import dataset
from text23d.world.__main__ import main
from text23d.world.caption import PARAPHRASES, Caption, caption_text, parse, phrases_for, tokenize, words
from text23d.world.colours import COLOURS
from text23d.world.dataset import Dataset, build_dataset
from text23d.world.kinds import KINDS, make
from text23d.world.parts import OBJECT_RADIUS, Mesh, Object, Part, box, ellipsoid, extrude
from text23d.world.render import Light, corner_normals, render, sample_light
from text23d.world.sheet import ring
from text23d.world.views import DISTANCE, ELEVATION, FOV, cameras_from, sample_cameras, to_rows

BODY = {
    "airplane": {"fuselage", "wings", "fin", "tailplane"},
    "boat": {"hull"},
    "car": {"body", "roof", "pillars"},
    "chair": {"leg", "seat", "back", "arm"},
    "house": {"walls"},
    "mug": {"cup", "handle", "lining"},
    "mushroom": {"cap"},
    "tree": {"foliage"},
}


def one(mesh: Mesh, colour: tuple[float, float, float] = (0.5, 0.25, 0.75)) -> Object:
    return Object("car", "red", (Part("only", mesh, colour),))


def camera(azimuth: float, elevation: float, distance: float = 3.0, fov: float = 40.0) -> Cameras:
    return cameras_from(np.array([[azimuth, elevation, distance, fov]]))


# Solids


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_closed_and_fill_the_ball(kind: str) -> None:
    for seed in range(8):
        thing = make(kind, "red", np.random.default_rng(seed))
        for part in thing.parts:
            solid = trimesh.Trimesh(part.mesh.vertices, part.mesh.faces)
            assert solid.is_watertight and solid.is_winding_consistent and solid.volume > 0, part.name
            assert min(part.colour) >= 0 and max(part.colour) <= 1
        everything = np.concatenate([part.mesh.vertices for part in thing.parts])
        assert np.linalg.norm(everything, axis=1).max() == pytest.approx(OBJECT_RADIUS, abs=1e-12)
        np.testing.assert_allclose(everything.min(0), -everything.max(0), atol=1e-12)


def test_volumes_equal_closed_forms() -> None:
    def volume(mesh: Mesh) -> float:
        a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
        return float((a * np.cross(b, c)).sum() / 6)

    assert volume(box(1, 2, 3)) == pytest.approx(6)
    assert volume(box(1, 1, 1, taper=(0.5, 0.5))) == pytest.approx((1 + 0.5 + 0.25) / 3)
    assert volume(extrude([(0, 0), (2, 0), (0, 2)], -1, 2, "y")) == pytest.approx(6)
    assert volume(ellipsoid(1, 2, 3, sides=96)) == pytest.approx(4 / 3 * np.pi * 6, rel=4e-3)
    assert volume(box(1, 2, 3).scaled(-1, 1, 2)) == pytest.approx(12)


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


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_seen_from_all_around(kind: str) -> None:
    pictures = render(make(kind, "blue", np.random.default_rng(3)), ring(6))
    alpha = pictures[..., 3] / 255.0
    assert pictures.shape == (6, 64, 64, 4) and pictures.dtype == np.uint8
    assert alpha.mean((1, 2)).min() > 0.06 and alpha.mean((1, 2)).max() < 0.75
    assert not alpha[:, [0, -1]].any() and not alpha[:, :, [0, -1]].any()
    assert (pictures[..., :3] <= pictures[..., 3:]).all()


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


@pytest.mark.parametrize(
    ("kind", "name", "axis", "sign"),
    [("mug", "handle", 0, 1), ("car", "headlamp", 1, -1), ("house", "door", 1, -1), ("chair", "back", 1, 1)],
)
def test_objects_face_minus_y(kind: str, name: str, axis: int, sign: int) -> None:
    for seed in range(6):
        parts = make(kind, "red", np.random.default_rng(seed)).parts
        assert min(sign * part.mesh.vertices[:, axis].mean() for part in parts if part.name == name) > 0.1


@pytest.mark.parametrize(("kind", "name"), [("airplane", "fin"), ("boat", "hull")])
def test_tails_are_behind_and_bows_are_in_front(kind: str, name: str) -> None:
    for seed in range(6):
        parts = make(kind, "red", np.random.default_rng(seed)).parts
        vertices = next(part.mesh.vertices for part in parts if part.name == name)
        if kind == "airplane":
            assert vertices[:, 1].mean() > 0.3
        else:
            bow, stern = vertices[vertices[:, 1].argmin()], vertices[vertices[:, 1].argmax()]
            ends = [np.abs(vertices[np.isclose(vertices[:, 1], end[1]), 0]).max() for end in (bow, stern)]
            assert ends[0] < 0.2 * ends[1]


def nearest_word(rgb: np.ndarray) -> str:
    """The colour word nearest in (chroma-weighted hue, saturation, value), a cone around the grey axis."""

    def cone(colour: tuple[float, ...]) -> np.ndarray:
        h, s, v = colorsys.rgb_to_hsv(*colour)
        return np.array([s * v * np.cos(2 * np.pi * h), s * v * np.sin(2 * np.pi * h), v])

    # A shade below 1 darkens every colour alike: compare with the words at the same mean shade.
    at = cone(tuple(rgb / 0.85))
    return min(COLOURS, key=lambda word: float(np.linalg.norm(at - cone(COLOURS[word]))))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_the_body_has_the_colour_that_the_prompt_says(kind: str, colour: str) -> None:
    thing = make(kind, colour, np.random.default_rng([5, list(COLOURS).index(colour)]))
    body = Object(kind, colour, tuple(part for part in thing.parts if part.name in BODY[kind]))
    views = ring(4)
    whole, bare = render(thing, views), render(body, views)
    opaque = bare[..., 3] == 255
    assert nearest_word(bare[opaque][:, :3].mean(0) / 255) == colour
    visible = opaque & (whole == bare).all(-1)
    assert visible.sum() / (whole[..., 3] == 255).sum() > 0.25


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


# Captions


@pytest.mark.parametrize("colour", [None, *COLOURS])
@pytest.mark.parametrize("kind", KINDS)
def test_every_phrasing_is_read_back(kind: str, colour: str | None) -> None:
    said = Caption(kind, colour)
    for template in phrases_for(said):
        text = captions._phrase(said, template)
        assert parse(text) == said, text
        assert set(tokenize(text)) <= set(words())
        assert "  " not in text and "{" not in text
    rng = np.random.default_rng(0)
    assert len({caption_text(said, rng) for _ in range(200)}) == len(phrases_for(said))


def test_plain_captions() -> None:
    assert caption_text(Caption("car", "red")) == "a red car"
    assert caption_text(Caption("boat", "orange")) == "an orange boat"
    assert caption_text(Caption("airplane", None)) == "an airplane"
    assert (
        captions._phrase(Caption("airplane", "white"), "a photo of {a} {colour} {kind}")
        == "a photo of a white airplane"
    )
    assert captions._phrase(Caption("airplane", "blue"), "{a} {kind} that is {colour}") == "an airplane that is blue"


def test_the_vocabulary_is_closed_sorted_and_holds_every_kind_and_colour() -> None:
    assert words() == sorted(set(words()))
    assert {*KINDS, *COLOURS, "a", "an", "the", "photo", "that"} <= set(words())
    assert len(KINDS) == len(COLOURS) == 8 and len(PARAPHRASES) == len(set(PARAPHRASES))


@pytest.mark.parametrize(
    "prompt",
    [
        "A RED car.",
        "  a red, car!\n",
        '"a red car"',
        "\u201ca red car\u201d",
        "red-car",
        "car, red",
        "a (red) car...",
        "`red_car`",
    ],
)
def test_punctuation_and_capitals_do_not_matter(prompt: str) -> None:
    assert parse(prompt) == Caption("car", "red")


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "prompt is empty"),
        (" \t\n ", "prompt is empty"),
        ("...", "prompt is empty"),
        ("a red cat", "'cat' (did you mean car"),
        ("a blue plane", "'plane' (did you mean airplane"),
        ("a red \N{AUTOMOBILE}", "'\N{AUTOMOBILE}'"),
        ("a red car \N{ZERO WIDTH JOINER}", r"'\u200d'"),
        ("a red\x00 car", r"'\x00'"),
        ("a not red car", "'not'"),
        ("a red car = 3", "'='"),
        ("un \u00e9l\u00e9phant", "'un'"),
        ("x" * 5000, "'" + "x" * 30 + "...'"),
        ("red", "names no object"),
        ("a photo of the", "names no object"),
        ("a car and a tree", "several objects (car and tree)"),
        ("red and blue", "several colours (red and blue)"),
        ("a red car, a tree", "several objects (car and tree)"),
        ("a red blue car", "several colours (red and blue)"),
    ],
)
def test_what_cannot_be_understood_is_said_in_one_line(prompt: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(prompt)
    message = str(error.value)
    assert said in message and "\n" not in message and len(message) < 400
    assert "mushroom" in message or "one object of one colour" in message


# The data set


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dataset(tmp_path_factory.mktemp("world") / "set", 20, 2, seed=4, workers=1, size=16)


def test_the_number_of_workers_changes_nothing(built: Path, tmp_path: Path) -> None:
    other = build_dataset(tmp_path / "set", 20, 2, seed=4, workers=2, size=16)
    for name in ("images.npy", "kind.npy", "colour.npy", "camera.npy", "meta.json"):
        assert (built / name).read_bytes() == (other / name).read_bytes(), name


def test_a_set_begins_with_the_smaller_set_and_depends_on_the_seed(built: Path, tmp_path: Path) -> None:
    small = Dataset.open(build_dataset(tmp_path / "small", 5, 2, seed=4, workers=1, size=16))
    other = Dataset.open(build_dataset(tmp_path / "other", 5, 2, seed=5, workers=1, size=16))
    np.testing.assert_array_equal(small.images, Dataset.open(built).images[:10])
    assert (small.images != other.images).any()


def test_labels_are_what_was_rendered(built: Path) -> None:
    data = Dataset.open(built)
    assert len(data) == 40 and data.images.shape == (40, 16, 16, 4)
    rng = np.random.default_rng(np.random.SeedSequence((4, 13)))
    thing = make(list(KINDS)[data.kind[26]], list(COLOURS)[data.colour[26]], rng)
    light = sample_light(rng)
    np.testing.assert_array_equal(to_rows(sample_cameras(2, rng)), data.camera[26:28])
    np.testing.assert_array_equal(render(thing, data.cameras(slice(26, 28)), light, 16), data.images[26:28])


def test_kinds_and_colours_are_balanced() -> None:
    pairs = [dataset.labels_of(index) for index in range(128)]
    assert all(pairs.count(pair) == 2 for pair in pairs) and len(set(pairs)) == 64


def test_nothing_is_left_of_a_set_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(index: int, **_: object) -> dataset.Rendered:
        raise RuntimeError(f"object {index}")

    monkeypatch.setattr(dataset, "render_object", breaks)
    with pytest.raises(RuntimeError):
        build_dataset(tmp_path / "set", 2, 1, seed=0, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_with_data_sets_are_explained(built: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        build_dataset(built, 1, 1, seed=0, workers=1)
    with pytest.raises(UserError, match="at least 1"):
        build_dataset(tmp_path / "none", 0, 1, seed=0, workers=1)
    with pytest.raises(UserError, match="no data set at"):
        Dataset.open(tmp_path / "none")


@pytest.mark.parametrize("harm", ["truncate", "pickle", "short", "json", "words", "missing"])
def test_a_damaged_set_is_refused(built: Path, tmp_path: Path, harm: str) -> None:
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    Dataset.open(tmp_path)
    meta = json.loads((tmp_path / "meta.json").read_text())
    if harm == "truncate":
        (tmp_path / "images.npy").write_bytes((built / "images.npy").read_bytes()[:-100])
    elif harm == "pickle":
        np.save(tmp_path / "kind.npy", np.array([{}], dtype=object), allow_pickle=True)
    elif harm == "short":
        np.save(tmp_path / "kind.npy", np.zeros(3, np.int8))
    elif harm == "json":
        (tmp_path / "meta.json").write_text("{")
    elif harm == "words":
        (tmp_path / "meta.json").write_text(json.dumps(meta | {"kinds": ["teapot"]}))
    else:
        (tmp_path / "camera.npy").unlink()
    with pytest.raises(UserError, match="build it again"):
        Dataset.open(tmp_path)


# The contact sheet


def test_sheets_are_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from imageio.v3 import imread

    assert main(["--out", str(tmp_path / "a" / "sheet.png"), "--size", "8"]) == 0
    assert main(["--out", str(tmp_path / "a" / "turn.png"), "--size", "8", "--turn"]) == 0
    assert imread(tmp_path / "a" / "sheet.png").shape == (64, 64, 3)
    assert imread(tmp_path / "a" / "turn.png").shape == (64, 96, 3)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["sheet.png", "turn.png"]
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file" / "sheet.png"), "--size", "8"]) == 2
    assert main(["--out", str(tmp_path / "b.png"), "--seed", "-1"]) == 2
    assert main(["--out", str(tmp_path / "b.jpg"), "--size", "8"]) == 2
    assert capsys.readouterr().err.count("error: ") == 3
