"""The data set's promises: labels, balance, the same bytes whatever the workers, and damage that is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from text23d.errors import UserError
from text23d.spaces import from_picture
from text23d.worlds.objects import dataset
from text23d.worlds.objects.caption import Caption, words
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.dataset import Dataset, Recipe, build_dataset, pictures, read_caption, render_object
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.render import Light, render, sample_light
from text23d.worlds.objects.scene import draw_caption, make
from text23d.worlds.objects.views import sample_cameras, to_rows

RECIPE = Recipe(views=2, seed=4, size=16)
FILES = ["camera.npy", "captions.json", "images.npy", "meta.json"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dataset(tmp_path_factory.mktemp("world") / "set", 20, RECIPE, workers=1)


def test_the_number_of_workers_changes_nothing(built: Path, tmp_path: Path) -> None:
    other = build_dataset(tmp_path / "set", 20, RECIPE, workers=2)
    assert sorted(path.name for path in other.iterdir()) == FILES
    for name in FILES:
        assert (built / name).read_bytes() == (other / name).read_bytes(), name


def test_a_set_begins_with_the_smaller_set_and_depends_on_the_seed(built: Path, tmp_path: Path) -> None:
    small = Dataset.open(build_dataset(tmp_path / "small", 5, RECIPE, workers=0))
    other = Dataset.open(build_dataset(tmp_path / "other", 5, replace(RECIPE, seed=5), workers=0))
    whole = Dataset.open(built)
    np.testing.assert_array_equal(small.images, whole.images[:10])
    np.testing.assert_array_equal(small.camera, whole.camera[:10])
    assert small.captions == whole.captions[:5] and (small.images != other.images).any()


def test_labels_are_what_was_rendered(built: Path) -> None:
    data = Dataset.open(built)
    assert len(data) == 40 and data.images.shape == (40, 16, 16, 4) and data.camera.shape == (40, 4)
    for index in (0, 7, 13):
        rng = np.random.default_rng(np.random.SeedSequence((4, index)))
        caption = draw_caption(index, rng)
        thing, light, rows = make(caption, rng), sample_light(rng), slice(2 * index, 2 * index + 2)
        np.testing.assert_array_equal(to_rows(sample_cameras(2, rng)), data.camera[rows])
        np.testing.assert_array_equal(render(thing, data.cameras(rows), light, 16), data.images[rows])
        assert data.caption(2 * index) == data.caption(2 * index + 1) == data.captions[index] == caption


def test_a_recipe_is_followed() -> None:
    """The light, the size and the number of pictures; pairs and held-out pairs as told."""
    caption, images, rows = render_object(3, Recipe(views=3, seed=0, size=8, light_variation=0.0))
    assert images.shape == (3, 8, 8, 4) and rows.shape == (3, 4) and images.dtype == np.uint8
    rng = np.random.default_rng(np.random.SeedSequence((0, 3)))
    assert draw_caption(3, rng) == caption
    thing, _ = make(caption, rng), sample_light(rng)
    np.testing.assert_allclose(render(thing, sample_cameras(3, rng), Light(), 8), images, atol=1)
    pair = next(i for i in range(200) if render_object(i, Recipe(1, 0, 1))[0].other is not None)
    assert render_object(pair, Recipe(1, 0, 1, pairs=False))[0].other is None
    purple_car = list(COLOURS).index("purple") * len(KINDS) + list(KINDS).index("car")
    recipes = [Recipe(1, 0, 1, held_out=each, pairs=False) for each in (False, True)]
    colours = [render_object(purple_car, recipe)[0].colour for recipe in recipes]
    assert colours == ["pink", "purple"]


def test_captions_survive_json() -> None:
    caption = Caption(
        "mug", "red", "tall", (("handle", "blue"),), "on", Caption("table", None, None, (("legs", "red"),))
    )
    assert read_caption(json.loads(json.dumps(asdict(caption)))) == caption
    assert read_caption(json.loads(json.dumps(asdict(Caption(None))))) == Caption(None)


def test_pictures_are_in_picture_space(built: Path) -> None:
    images = Dataset.open(built).images[:6]
    x = pictures(images)
    assert x.shape == (6, 4, 16, 16) and x.dtype == torch.float32
    premultiplied, alpha = from_picture(x)
    unit = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(torch.cat([premultiplied, alpha], 1), unit, rtol=0, atol=1e-6)


def test_what_is_written_about_it(built: Path) -> None:
    meta = json.loads((built / "meta.json").read_text())
    assert meta == {"version": dataset.VERSION, "words": list(words()), "objects": 20, **asdict(RECIPE)}
    assert Dataset.open(built).meta == meta


def test_nothing_is_left_of_a_set_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(index: int, **_: object) -> dataset.Rendered:
        raise RuntimeError(f"object {index}")

    monkeypatch.setattr(dataset, "render_object", breaks)
    with pytest.raises(RuntimeError):
        build_dataset(tmp_path / "set", 2, RECIPE, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_explained(built: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        build_dataset(built, 1, RECIPE, workers=1)
    with pytest.raises(UserError, match="got 0 objects: expected at least 1"):
        build_dataset(tmp_path / "none", 0, RECIPE, workers=1)
    with pytest.raises(UserError, match="no data set at"):
        Dataset.open(tmp_path / "none")
    for wrong in ({"views": 0}, {"size": 0}, {"seed": -1}):
        with pytest.raises(UserError, match="expected at least 1, 1 and 0"):
            Recipe(**{"views": 1, "seed": 0} | wrong)  # type: ignore[arg-type]
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
    "another number of objects": lambda at: rewritten(at / "meta.json", objects=19),
    "another vocabulary": lambda at: rewritten(at / "meta.json", words=["teapot"]),
    "another version": lambda at: rewritten(at / "meta.json", version=1),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_set_is_refused(built: Path, tmp_path: Path, harm: str) -> None:
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    Dataset.open(tmp_path)
    HARMS[harm](tmp_path)
    with pytest.raises(UserError, match="remove it to have it rendered again") as error:
        Dataset.open(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
