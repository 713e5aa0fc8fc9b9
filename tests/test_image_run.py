"""From a prompt to a picture, end to end: tiny runs of the real thing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image
from tiny import optimise
from torch import Tensor

import text23d
from text23d import export, gallery
from text23d.cameras import Cameras
from text23d.compose import compose
from text23d.contracts import Exported, unwatched
from text23d.door import commandline
from text23d.engine.build import Parts, build_run
from text23d.engine.state import RunState
from text23d.errors import UserError
from text23d.files import load_tensors
from text23d.pictures import read_picture
from text23d.representation.views import FixedCamera
from text23d.settings import build
from text23d.tasks.object import ObjectTask
from text23d.tasks.picture import PictureTask

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(text23d.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
FILES = ["checkpoints", "config.yaml", "contact.png", "image.png", "image.safetensors", "metrics.jsonl", "summary.json"]
CPU = torch.device("cpu")


def made(*overrides: str) -> tuple[RunState, Parts]:
    return build_run(compose("config", ["prompt='a red car'", "method.iterations=3", *overrides]), CPU)


def finished(prior: Path, *overrides: str) -> tuple[RunState, Parts]:
    state, parts = made(f"prior.weights='{prior}'", *overrides)
    assert [line["iteration"] for line in optimise(state, parts)] == [1, 2, 3]
    return state, parts


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """A picture of 64 x 64 pixels, the mask of its left half, and the settings that ask for its completion."""
    folder = tmp_path_factory.mktemp("known, with a comma")
    levels = np.random.default_rng(0).integers(1, 256, (64, 64, 4), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    for name, each in (("picture", levels), ("mask", mask)):
        Image.fromarray(each).save(folder / f"{name}.png")
    return str(folder / "picture.png"), str(folder / "mask.png"), "constraint=inpaint"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> tuple[Path, str]:
    """The folder and the words of a sweep over both kinds of picture."""
    root = tmp_path_factory.mktemp("sweep")
    tiny = (f"prior.weights={tiny_prior}", "device=cpu", "method.iterations=3", "stages=2")
    command = [sys.executable, "-m", "text23d.run", "-m", "prompt=a red car", "representation=image,mlp_image", *tiny]
    done = subprocess.run(command, cwd=root, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder,) = root.glob("outputs/*/*-sweep")
    return folder, done.stderr


def test_every_result_is_there_and_nothing_else(sweep: tuple[Path, str]) -> None:
    folder, said = sweep
    for name, parameters in (("0-a-red-car", {"pixels"}), ("1-a-red-car", {"frequencies", "mlp.0.weight"})):
        where = folder / name
        assert sorted(path.name for path in where.iterdir()) == sorted([*FILES, "log.txt", "output.txt"])
        tensors, facts = load_tensors(where / "image.safetensors", "image")
        section = yaml.safe_load((where / "config.yaml").read_text())["representation"]
        assert parameters <= tensors.keys()
        assert facts == {"prompt": "a red car", "iteration": 3, "representation": section}
        image = build(section, "representation")
        image.load_state_dict(tensors)
        picture = Image.open(where / "image.png")
        assert picture.mode == "RGBA" and picture.size == (64, 64)
        shown = image.render(FixedCamera().sample(1), (64, 64))[0].detach().clamp(-1, 1)
        again = read_picture(where / "image.png", "image")
        covered = again[3] > -0.9
        assert covered.any() and (again - shown)[3].abs().max() < 1 / 127
        assert (again - shown)[:, covered].abs().median() < 1 / 127
        sheet = Image.open(where / "contact.png")
        assert sheet.width == 4 + 3 * (192 + 4), "the start and two stages, side by side"
    assert said.count("-a-red-car; judge: kind_probability") == 2 and "Traceback" not in said


def test_summary_of_a_picture(sweep: tuple[Path, str]) -> None:
    summary = json.loads((sweep[0] / "0-a-red-car" / "summary.json").read_text())
    assert summary["image"] == {"file": "image.png", "size": 64} and "mesh" not in summary
    names = {"kind_probability", "kind_accuracy", "colour_probability", "colour_accuracy"}
    assert summary["score"].keys() == names and all(0 <= value <= 1 for value in summary["score"].values())
    lines = [json.loads(line) for line in (sweep[0] / "0-a-red-car" / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3] and sum(line["nfe"] for line in lines) == summary["nfe"]


def test_a_gallery_of_pictures(sweep: tuple[Path, str], tmp_path: Path) -> None:
    options = {"runs": str(sweep[0]), "out": str(tmp_path), "views": 4, "columns": 2, "size": 32}
    gallery.run(OmegaConf.create(options))
    table = (tmp_path / "gallery.md").read_text().splitlines()
    assert len(table) == 5 and all(line.endswith("| - |") for line in table[2:4])
    assert Image.open(tmp_path / "gallery.png").width == 4 + 2 * (32 + 4), "one picture of each, side by side"


def test_a_picture_has_no_mesh(sweep: tuple[Path, str]) -> None:
    cfg = OmegaConf.create(compose("export", [f"run='{sweep[0] / '0-a-red-car'}'", "device=cpu"]))
    with pytest.raises(UserError, match=r"0-a-red-car made an image, which has no mesh .*: see image\.png") as raised:
        export.run(cfg)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("representation", ["image", "mlp_image"])
def test_the_same_seed_gives_the_same_bytes(representation: str, tiny_prior: Path) -> None:
    def preview(seed: int) -> Tensor:
        usual = (f"representation={representation}", "representation.size=16", f"seed={seed}")
        state, parts = finished(tiny_prior, *usual)
        return parts.task.preview(state.result())

    one, same, other = (preview(seed) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("representation", ["image", "mlp_image"])
def test_what_is_known_is_kept_to_the_bit(
    representation: str, known: tuple[str, str, str], tiny_prior: Path, tmp_path: Path
) -> None:
    picture, mask, constraint = known
    files = (f"constraint.picture='{picture}'", f"constraint.mask='{mask}'")
    state, parts = finished(tiny_prior, f"representation={representation}", constraint, *files)
    told = parts.task.export(state.result(), "a red car", tmp_path, unwatched, lambda *done: None)
    assert told == Exported({"image": {"file": "image.png", "size": 64}}, "image.png of 64 x 64 pixels")
    left, given = (np.asarray(Image.open(path)) for path in (tmp_path / "image.png", picture))
    assert np.array_equal(left[:, :32], given[:, :32])
    assert (left[:, 32:] != given[:, 32:]).mean() > 0.5


def test_an_object_is_completed_and_referred_to_by_the_same_words(
    known: tuple[str, str, str], tiny_prior: Path
) -> None:
    """The pixels of one of the views, at the update, and the loss of another: both run with the NeRF."""
    picture, mask, inpaint = known
    files = (f"constraint.picture='{picture}'", f"constraint.mask='{mask}'")
    tiny = (*files, "representation.steps=16", "method.views=2", "method.size.stages=[[0,16]]")
    for constraint in (inpaint, "constraint=reference"):
        _, parts = finished(tiny_prior, constraint, "constraint.azimuth=40", *tiny)
        assert isinstance(parts.task, ObjectTask)
        views = parts.views.sample(2, torch.Generator().manual_seed(0))
        assert (views.azimuth[1].item() == 40.0) == (constraint == inpaint), "a reference is no target"


def test_a_picture_is_seen_from_where_the_configuration_says() -> None:
    _, parts = made("representation=image", "views.azimuth=120", "views.elevation=5")
    assert isinstance(parts.task, PictureTask) and parts.recipe.views == 1
    for cameras in (parts.task.view, parts.views.sample(1)):
        assert isinstance(cameras, Cameras)
        assert (cameras.azimuth.item(), cameras.elevation.item()) == (120.0, 5.0)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (("representation=image", "views=around"), "choose views=one"),
        (("representation=image", "representation.size=0"), r"representation\.size=0: expected"),
        (("representation=image", "representation.start=gone.png"), r"representation\.start=gone\.png: no such file"),
        (
            ("representation=mlp_image", "representation.bandwidth=-1"),
            r"^representation\.bandwidth=-1: expected a number above 0 and at most 1000$",
        ),
        (("representation=image", "views.fov=200"), "camera fov is"),
        (("constraint=reference", "constraint.picture=gone.png"), r"constraint\.picture=gone\.png: no such file"),
        (("constraint=reference", "constraint.picture=x", "constraint.weight=-1"), r"constraint\.weight=-1: expected"),
    ],
)
def test_mistakes_are_told_in_one_line(overrides: tuple[str, ...], problem: str, tiny_prior: Path) -> None:
    with pytest.raises(UserError, match=problem) as raised:
        made(f"prior.weights='{tiny_prior}'", *overrides)
    assert "\n" not in str(raised.value)


def test_a_missing_picture_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"no constraint\.mask given: add one, for example constraint\.mask="):
        commandline.read("run", ["prompt=a mug", "constraint=inpaint", "constraint.picture=a.png"])
