"""The data set's promises: labels, balance, the same bytes whatever the workers, and damage that is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from text23d.contracts import Example
from text23d.errors import UserError
from text23d.spaces import from_picture
from text23d.worlds import dataset
from text23d.worlds.dataset import Dataset, Recipe, build_dataset, open_or_build
from text23d.worlds.objects.caption import Caption, read_caption, words
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.render import Light, pictures, render, sample_light
from text23d.worlds.objects.scene import draw_caption, make
from text23d.worlds.objects.views import sample_cameras, to_rows
from text23d.worlds.objects.world import Objects

RECIPE = Recipe(Objects(size=16), examples=20, views=2, seed=4)
FILES = ["camera.npy", "captions.json", "images.npy", "meta.json"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dataset(tmp_path_factory.mktemp("world") / "set", RECIPE)


def test_the_number_of_workers_changes_nothing(built: Path, tmp_path: Path) -> None:
    other = build_dataset(tmp_path / "set", RECIPE, workers=2)
    assert sorted(path.name for path in other.iterdir()) == FILES
    for name in FILES:
        assert (built / name).read_bytes() == (other / name).read_bytes(), name


def test_a_set_begins_with_the_smaller_set_and_depends_on_the_seed(built: Path, tmp_path: Path) -> None:
    small, other = (open_or_build(tmp_path / f"{seed}", replace(RECIPE, examples=5, seed=seed), 0) for seed in (4, 5))
    whole = Dataset.open(built, RECIPE)
    for name, rows in small.arrays.items():
        np.testing.assert_array_equal(rows, whole.arrays[name][:10])
        assert (rows != other.arrays[name]).any()
    assert small.captions == whole.captions[:5]


def test_labels_are_what_was_rendered(built: Path) -> None:
    data = Dataset.open(built, RECIPE)
    images, camera = data.arrays["images"], data.arrays["camera"]
    assert len(data) == 40 and images.shape == (40, 16, 16, 4) and camera.shape == (40, 4)
    for index in (0, 7, 13):
        rng = np.random.default_rng(np.random.SeedSequence((4, index)))
        caption = draw_caption(index, rng)
        thing, light, rows = make(caption, rng), sample_light(rng), slice(2 * index, 2 * index + 2)
        x, cameras = data.rows(np.arange(rows.start, rows.stop))
        np.testing.assert_array_equal(to_rows(sample_cameras(2, rng)), camera[rows])
        np.testing.assert_array_equal(to_rows(cameras), camera[rows])
        np.testing.assert_array_equal(render(thing, cameras, light, 16), images[rows])
        assert torch.equal(x, pictures(images[rows]))
        assert data.caption(2 * index) == data.caption(2 * index + 1) == data.captions[index] == caption


def caption(index: int, world: Objects) -> Caption:
    it: Caption = world.example(0, index, 1).caption
    return it


def test_a_worlds_settings_are_followed() -> None:
    """The light, the size and the number of pictures; pairs and held-out pairs as told."""
    made = Objects(size=8, light_variation=0.0).example(0, 3, 3)
    images, rows = made.arrays["images"], made.arrays["camera"]
    assert images.shape == (3, 8, 8, 4) and rows.shape == (3, 4) and images.dtype == np.uint8
    rng = np.random.default_rng(np.random.SeedSequence((0, 3)))
    assert draw_caption(3, rng) == made.caption
    thing, _ = make(made.caption, rng), sample_light(rng)
    np.testing.assert_allclose(render(thing, sample_cameras(3, rng), Light(), 8), images, atol=1)
    pair = next(i for i in range(200) if caption(i, Objects(1)).other is not None)
    assert caption(pair, Objects(1, pairs=False)).other is None
    green_duck = list(COLOURS).index("green") * len(KINDS) + list(KINDS).index("duck")
    colours = [caption(green_duck, Objects(1, held_out=each, pairs=False)).colour for each in (False, True)]
    assert colours == ["blue", "green"]


def test_captions_survive_json() -> None:
    caption = Caption(
        "mug", "red", "tall", (("handle", "blue"),), "on", Caption("table", None, None, (("legs", "red"),))
    )
    assert read_caption(json.loads(json.dumps(asdict(caption)))) == caption
    assert read_caption(json.loads(json.dumps(asdict(Caption(None))))) == Caption(None)


def test_pictures_are_in_picture_space(built: Path) -> None:
    images = Dataset.open(built, RECIPE).arrays["images"][:6]
    x = pictures(images)
    assert x.shape == (6, 4, 16, 16) and x.dtype == torch.float32
    premultiplied, alpha = from_picture(x)
    unit = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(torch.cat([premultiplied, alpha], 1), unit, rtol=0, atol=1e-6)


def test_what_is_written_about_it(built: Path) -> None:
    meta = json.loads((built / "meta.json").read_text())
    counts = {"objects": 20, "views": 2, "seed": 4}
    assert meta == {"version": dataset.VERSION, "words": list(words()), **counts, **asdict(Objects(size=16))}


def test_a_set_of_another_recipe_is_named(built: Path) -> None:
    others = {
        "objects": replace(RECIPE, examples=19),
        "views": replace(RECIPE, views=3),
        "seed": replace(RECIPE, seed=5),
        "size": replace(RECIPE, world=Objects(size=17)),
        "light_variation": replace(RECIPE, world=Objects(size=16, light_variation=2.5)),
    }
    for name, recipe in others.items():
        with pytest.raises(UserError, match=f"has {name}=.*asked for: remove it, or choose another folder"):
            open_or_build(built, recipe)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    build_dataset(tmp_path / "set", replace(RECIPE, examples=3), progress=lambda *each: told.append(each))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_nothing_is_left_of_a_set_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(world: Objects, seed: int, index: int, views: int) -> Example:
        raise RuntimeError(f"object {index}")

    monkeypatch.setattr(Objects, "example", breaks)
    with pytest.raises(RuntimeError):
        build_dataset(tmp_path / "set", RECIPE)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_explained(built: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        build_dataset(built, RECIPE)
    with pytest.raises(UserError, match="no data set at"):
        Dataset.open(tmp_path / "none", RECIPE)
    for wrong in ({"views": 0}, {"examples": 0}, {"seed": -1}):
        with pytest.raises(UserError, match="expected at least 1, 1 and 0"):
            replace(RECIPE, **wrong)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def rewritten(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


HARMS = {
    "images cut short": lambda at: (at / "images.npy").write_bytes((at / "images.npy").read_bytes()[:-100]),
    "images empty": lambda at: (at / "images.npy").write_bytes(b""),
    "images of another type": lambda at: np.save(at / "images.npy", np.zeros((40, 16, 16, 4), np.float32)),
    "a pickle": lambda at: np.save(at / "camera.npy", np.array([{}], dtype=object), allow_pickle=True),
    "too few cameras": lambda at: np.save(at / "camera.npy", np.zeros((3, 4), np.float32)),
    "no cameras": lambda at: (at / "camera.npy").unlink(),
    "captions cut short": lambda at: (at / "captions.json").write_bytes((at / "captions.json").read_bytes()[:-9]),
    "too few captions": lambda at: (at / "captions.json").write_text("[]"),
    "captions of another kind": lambda at: (at / "captions.json").write_text('["a red car"]'),
    "a caption without its fields": lambda at: (at / "captions.json").write_text('[{"kind": "car"}]'),
    "a caption with other fields": lambda at: (at / "captions.json").write_text(
        (at / "captions.json").read_text().replace('"colour"', '"color"')
    ),
    "no captions": lambda at: (at / "captions.json").unlink(),
    "broken meta": lambda at: (at / "meta.json").write_text("{"),
    "meta of another kind": lambda at: (at / "meta.json").write_text("[1]"),
    "no meta": lambda at: (at / "meta.json").unlink(),
    "bytes for text": lambda at: (at / "meta.json").write_bytes(b"\xff\xfe\x00"),
    "another number of captions": lambda at: (at / "captions.json").write_text(
        json.dumps(json.loads((at / "captions.json").read_text())[1:])
    ),
    "another vocabulary": lambda at: rewritten(at / "meta.json", words=["teapot"]),
    "another version": lambda at: rewritten(at / "meta.json", version=1),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_set_is_refused(built: Path, tmp_path: Path, harm: str) -> None:
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    Dataset.open(tmp_path, RECIPE)
    HARMS[harm](tmp_path)
    with pytest.raises(UserError, match="remove it to have it made again") as error:
        Dataset.open(tmp_path, RECIPE)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
