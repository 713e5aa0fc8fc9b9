"""Panoramas: flat strips and spheres, where their views look, prompts for their parts, and what they leave."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import optimise
from torch import Tensor

from text23d.compose import compose
from text23d.contracts import unwatched
from text23d.crops import SPAN, Crops, Outlook, directions
from text23d.engine.build import Parts, build_run, name_of
from text23d.engine.state import RunState
from text23d.errors import UserError
from text23d.prior.wrappers.regional import blends
from text23d.representation.canvas import Canvas
from text23d.representation.panorama import CropSampler, panorama, sphere
from text23d.representation.windowing import WindowSampler
from text23d.settings import build
from text23d.tasks import panorama as tasks
from text23d.tasks.outpainting import outpaint
from text23d.tasks.regions import Regions
from text23d.worlds.landscapes.canvas import cut
from text23d.worlds.landscapes.scenes import surroundings

CPU = torch.device("cpu")


def stream(step: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(step)


# Where views look


def test_windows_of_a_strip_are_the_crops_that_they_say_they_are() -> None:
    """A strip of a real panorama, 512 pixels all the way round: its windows are the world's flat crops."""
    seen = surroundings("mountains", "sunset", "clear", np.random.default_rng(0), 512)
    step = math.radians(SPAN / 64)
    azimuth = np.broadcast_to((np.arange(512) + 0.5 - 256) * math.degrees(step), (96, 512)).astype(np.float32)
    rise = np.degrees(np.arctan((48 - np.arange(96) - 0.5) * step))[:, None]
    strip = torch.from_numpy(cut(seen, azimuth[None], np.broadcast_to(rise, (1, 96, 512)).astype(np.float32))[0])
    outlook = Outlook((96, 512), (64, 64), wrap=True)
    windows = WindowSampler((96, 512), (64, 64), (False, True), outlook).sample(5, stream())
    crops = outlook.crops(windows.start)
    expected = crops.cut(torch.from_numpy(seen).movedim(-1, 0), (64, 64))
    torch.testing.assert_close(windows.cut(strip.movedim(-1, 0), (64, 64)), expected, atol=2e-3, rtol=0)
    assert torch.equal(windows.features(), crops.features()) and windows.features().shape == (5, 5)


@pytest.mark.parametrize(
    ("wide", "wrap", "start", "azimuth"),
    [
        (512, False, 224, 0),
        (512, False, 0, -157.5),
        (512, True, 480, 180),
        (8192, False, 0, -180),
        (128, False, 64, 22.5),
    ],
)
def test_there_is_one_sun(wide: int, wrap: bool, start: int, azimuth: float) -> None:
    """In the middle, at the scale of the windows, however wide the panorama; beyond half a turn all is lit alike."""
    found = Outlook((64, wide), (64, 64), wrap=wrap).crops(torch.tensor([[0, start]])).azimuth.item()
    assert abs(abs(found) - 180) < 1e-3 if abs(azimuth) == 180 else found == pytest.approx(azimuth)
    moved = Outlook((64, 512), (64, 64), sun=0.25).crops(torch.tensor([[0, 96]]))
    assert moved.azimuth.item() == 0 and moved.elevation.item() == 0 and moved.flat.item() == 1
    high = Outlook((128, 512), (64, 64)).crops(torch.tensor([[0, 0], [64, 0]])).elevation
    assert high.tolist() == pytest.approx([math.degrees(math.atan(math.pi / 8)), -math.degrees(math.atan(math.pi / 8))])


def test_crops_of_a_sphere_show_what_lies_there() -> None:
    """Of a sphere whose colour is the direction itself a crop shows its rays, across the seam and near the poles."""
    values = directions(256, 512).movedim(-1, 0)
    views = Crops(torch.tensor([0.0, 180.0, 77.0]), torch.tensor([0.0, 20.0, -85.0]), torch.zeros(3))
    found = views.cut(values, (32, 32))
    torch.testing.assert_close(found, views.rays((32, 32)).movedim(-1, 1), atol=3e-3, rtol=0)
    canvas = sphere(16)
    canvas.render(views, (8, 8)).square().sum().backward()
    assert canvas.values.grad is not None and canvas.shape == (16, 32)


def test_what_is_pasted_into_a_sphere_lies_where_it_was_cut() -> None:
    """And nowhere else: in 64 x 64 degrees around its middle, brute force by angles."""
    values = directions(64, 128).movedim(-1, 0)
    views = Crops(torch.tensor([175.0, 30.0]), torch.tensor([0.0, 80.0]), torch.zeros(2))
    total = views.paste(views.cut(values, (64, 64)), (64, 128))
    count = views.paste(torch.ones(2, 1, 64, 64), (64, 128))
    seen = count[0] > 0
    torch.testing.assert_close((total / count)[:, seen], values[:, seen], atol=5e-3, rtol=0)
    level = values.permute(1, 2, 0) @ torch.tensor([math.sin(math.radians(175)), math.cos(math.radians(175)), 0.0])
    half = math.atan(math.radians(SPAN) / 2)
    first = views.rows(slice(0, 1)).paste(torch.ones(1, 1, 8, 8), (64, 128))[0]
    assert (first[level > math.cos(half)] - 1).abs().max() < 1e-5
    corner = math.atan(math.radians(SPAN) / math.sqrt(2))
    assert (first[level < math.cos(corner)] == 0).all()
    phi = sphere(64)
    phi.replace(views, views.cut(values, (64, 64)))
    torch.testing.assert_close(phi.values.data[:, seen], values[:, seen], atol=5e-3, rtol=0)
    assert (phi.values[:, ~seen] == 0).all()


def test_every_place_of_a_sphere_is_seen_about_equally_often() -> None:
    sampler, seen = CropSampler((16, 32)), torch.zeros(16, 32)
    for index in range(60):
        views = sampler.sample(36, stream(index))
        seen += views.paste(torch.ones(36, 1, 4, 4), (16, 32))[0]
    share = seen / seen.mean()
    assert share.min() > 0.75 and share.max() < 1.3
    low = CropSampler((16, 32), -10, 20).sample(50, stream())
    assert low.elevation.min() >= -10 and low.elevation.max() <= 20 and (low.flat == 0).all()
    with pytest.raises(UserError, match="expected rising elevations"):
        CropSampler((16, 32), 20, 20)


# Prompts for parts


def settings(shape: tuple[int, int] = (16, 64), wrap: bool = False, **more: Any) -> dict[str, Any]:
    return {"representation": {"height": shape[0], "width": shape[1], "wrap": wrap}, **more}


def test_regions_of_a_strip_and_of_a_sphere_by_name_range_and_picture(tmp_path: Path) -> None:
    named = tasks.task(settings(regions={"left": "a town", "right": "a beach"}), blend=0)
    ranged = tasks.task(settings(regions={"0-0.5": "a town", "0.5-1": "a beach"}), blend=0)
    for index, half in enumerate((slice(0, 32), slice(32, 64))):
        levels = np.zeros((16, 64), np.uint8)
        levels[:, half] = 255
        Image.fromarray(levels).save(tmp_path / f"{index}.png")
    masks = [
        {"mask": str(tmp_path / f"{index}.png"), "prompt": each} for index, each in enumerate(("a town", "a beach"))
    ]
    drawn = tasks.task(settings(regions=masks))
    expected = torch.zeros(2, 16, 64)
    expected[0, :, :32], expected[1, :, 32:] = 1, 1
    for each in (named, ranged, drawn):
        assert each.regions is not None and each.regions.prompts == ("a town", "a beach")
        assert torch.equal(each.regions.weights, expected)
    whole = tasks.sphere(settings((16, 32), regions={"left": "a town", "right": "a beach"}), blend=0)
    assert whole.regions is not None and whole.regions.weights.shape == (2, 16, 32)
    views = Crops(torch.tensor([-90.0, 90.0, 0.0]), torch.zeros(3), torch.zeros(3))
    assert whole.regions.alone(views, (4, 4)).tolist() == [0, 1, -1]

    class Rows(torch.Tensor):
        cat = staticmethod(torch.cat)

    def prompt(views: Any) -> tuple[Any, Any]:
        c = views.features().as_subclass(Rows)
        return c, c

    blend, _ = blends([prompt, prompt], whole.regions.weights, (4, 4), 1, views)
    assert blend.example.tolist() == [0, 2, 1, 2]


@pytest.mark.parametrize(
    ("regions", "problem"),
    {
        "overlap": ({"0-0.6": "a town", "0.5-1": "a beach"}, "regions overlap at 0.5 widths"),
        "hole": ({"0-0.4": "a town", "0.5-1": "a beach"}, "regions leave a hole at 0.4 widths"),
        "end": ({"0-0.4": "a town"}, "regions end at 0.4 of 1 widths"),
        "name": ({"up": "a town"}, "regions.up: expected a range"),
    }.values(),
)
def test_regions_that_do_not_serve_are_told(regions: Any, problem: str) -> None:
    with pytest.raises(UserError, match=re.escape(problem)):
        tasks.task(settings(regions=regions))


def test_a_mask_of_other_proportions_is_refused(tmp_path: Path) -> None:
    Image.new("L", (64, 64), 255).save(tmp_path / "square.png")
    with pytest.raises(UserError, match="the mask is 64 x 64, the panorama 64 x 16: expected the same proportions"):
        tasks.task(settings(regions=[{"mask": str(tmp_path / "square.png"), "prompt": "a town"}]))


# A part that is given


def strip_of(path: Path, save: Callable[[Image.Image, Path], None]) -> Path:
    """A picture of 24 x 12 with a dark left and a bright right half, saved in some way."""
    levels = np.full((12, 24), 51, np.uint8)
    levels[:, 12:] = 204
    save(Image.fromarray(levels), path)
    return path


KINDS: dict[str, Callable[[Image.Image, Path], None]] = {
    "grey.png": lambda grey, path: grey.save(path),
    "sixteen.png": lambda grey, path: Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(path),
    "palette.png": lambda grey, path: grey.convert("RGB").quantize(4).save(path),
    "cmyk.tif": lambda grey, path: grey.convert("RGB").convert("CMYK").save(path),
    "turned.jpg": lambda grey, path: turned(grey, path),
}


def turned(grey: Image.Image, path: Path) -> None:
    """Stored lying on its side, as a camera held upright does."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    grey.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=100, subsampling=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_given_part_is_kept_where_it_lies(kind: str, tmp_path: Path) -> None:
    """At the right end of a panorama twice as high, whatever kind of file it is."""
    picture = strip_of(tmp_path / kind, KINDS[kind])
    views = WindowSampler((24, 96), (24, 24))
    constraint, same = outpaint(str(picture), at=1.0).constrain(views, False, CPU)
    assert same is views
    windows = views.sample(3, stream())
    x = torch.zeros(3, 3, 24, 24)
    found = constraint.project(x, windows)
    known = torch.zeros(3, 24, 96)
    known[..., 48:72], known[..., 72:] = 51 / 127.5 - 1, 204 / 127.5 - 1
    inside = windows.cut(known, (24, 24)) != 0
    edge = (windows.start[:, 1, None] + torch.arange(24) - 71.5).abs()[:, None, None] < 2  # bilinear there
    expected = windows.cut(known, (24, 24))
    torch.testing.assert_close(found.where(~edge, 0), expected.where(~edge, 0), atol=0.03, rtol=0)
    assert (found[~inside] == 0).all()


def test_transparency_and_masks_say_what_is_kept(tmp_path: Path) -> None:
    levels = np.full((16, 32, 4), 255, np.uint8)
    levels[:, :8, 3] = 0
    Image.fromarray(levels).save(tmp_path / "picture.png")
    mask = np.zeros((16, 32), np.uint8)
    mask[:, :16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    _, known = outpaint(str(tmp_path / "picture.png"), at=0.0).placed((16, 64))
    assert known[0, 0].nonzero().flatten().tolist() == [*range(8, 32)]
    _, known = outpaint(str(tmp_path / "picture.png"), str(tmp_path / "mask.png"), 0.0).placed((16, 64))
    assert known[0, 0].nonzero().flatten().tolist() == [*range(8, 16)]


def test_what_is_given_and_does_not_serve_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (64, 16), "red").save(tmp_path / "wide.png")
    Image.new("L", (32, 16), 255).save(tmp_path / "mask.png")
    wide = str(tmp_path / "wide.png")
    for (mask, shape), problem in {
        (None, (16, 48)): "is 64 pixels wide at the panorama's height of 16",
        (None, (16, 64)): "all of the panorama is known",
        (str(tmp_path / "mask.png"), (16, 128)): "mask and picture are 32 x 16 and 64 x 16: expected the same size",
    }.items():
        with pytest.raises(UserError, match=problem):
            outpaint(wide, mask).placed(shape)
    with pytest.raises(UserError, match="choose representation=panorama or sphere"):
        outpaint(wide).constrain(object(), False, CPU)  # type: ignore[arg-type]


# What is left


def filled(phi: Canvas, values: Tensor) -> Canvas:
    phi.values.data = values
    return phi


@pytest.mark.parametrize("wrap", [True, False])
def test_a_strip_leaves_a_picture_and_a_video_along_it(wrap: bool, tmp_path: Path) -> None:
    across = torch.linspace(-1, 1, 64).expand(3, 16, 64)
    task = tasks.task(settings(wrap=wrap))
    phi = filled(
        task.build({"_target_": "text23d.representation.panorama.panorama", "height": 16, "width": 64}, 0, CPU), across
    )
    left = task.export(phi, "a town", tmp_path, unwatched, lambda *_: None)
    assert left.summary["panorama"] == {"file": "panorama.png", "width": 64, "height": 16, "video": "pan.mp4"}
    written = np.asarray(Image.open(tmp_path / "panorama.png"))
    assert written.shape == (16, 64, 4) and np.abs(written[3, :, 0] - np.linspace(0, 255, 64)).max() <= 1
    video = iio.imread(tmp_path / "pan.mp4")
    assert video.shape == (tasks.FRAMES, 256, 512, 3)
    middle = video[:, 128, 256, 0].astype(float)
    assert middle[0] < 80 and (middle[-1] > 175) == (not wrap), "a strip that does not go round is seen to its end"
    assert task.preview(phi).shape == (1, 4, 16, 64) and task.fault(phi) == ""
    assert task.fault(panorama(16, 64)) == "the panorama is the same everywhere"


def test_a_sphere_leaves_a_picture_and_a_video_of_one_turn(tmp_path: Path) -> None:
    task = tasks.sphere(settings((32, 64)))
    phi = filled(sphere(32), directions(32, 64).movedim(-1, 0).contiguous())
    left = task.export(phi, "a town", tmp_path, unwatched, lambda *_: None)
    assert left.summary["panorama"]["width"] == 64
    video = iio.imread(tmp_path / "pan.mp4")
    assert video.shape == (tasks.FRAMES, 256, 256, 3)
    quarter = video[tasks.FRAMES * 3 // 4, 128, 128]  # 90 degrees right of the sun, level
    assert np.abs(quarter.astype(float) - [255, 127.5, 127.5]).max() < 12
    assert task.judged(phi, (8, 8))[0].shape == (tasks.JUDGED, 3, 8, 8)


def test_the_judge_sees_the_horizon_of_each_region() -> None:
    """Of a strip twice as high as a window, the rows half-way up; by region what shows no other."""
    rows = torch.linspace(-1, 1, 32)[:, None].expand(3, 32, 128).contiguous()
    task = tasks.task(settings((32, 128), regions={"left": "a town", "right": "a beach"}), blend=0)
    town, beach = task.judged(filled(panorama(32, 128), rows), (16, 16))
    assert town.shape == beach.shape == (7, 3, 16, 16)
    assert torch.equal(town[0], rows[:, 8:24, :16])
    (whole,) = tasks.task(settings((32, 128), wrap=True)).judged(filled(panorama(32, 128), rows), (16, 16))
    assert whole.shape == (16, 3, 16, 16)


# Whole runs, by the shipped prior


def made(*overrides: str) -> tuple[RunState, Parts]:
    """A short run's end."""
    short = ("representation=panorama", "representation.width=128", "method.views=3", "method.iterations=2")
    state, parts = build_run(compose("config", [*short, *overrides]), CPU)
    assert [line["iteration"] for line in optimise(state, parts)] == [1, 2]
    return state, parts


def whole(run: tuple[RunState, Parts]) -> Tensor:
    state, parts = run
    task: Any = parts.task
    found: Tensor = task.whole(state.result())
    assert found.isfinite().all() and found.std() > 0.01
    return found


@pytest.mark.parametrize("how", [[], ["method/optimizer=replace"], ["representation.wrap=true"]], ids=str)
def test_a_run_makes_a_panorama(how: list[str]) -> None:
    """The same seed the same one; what is told of each window is where it looks."""
    one, other = (whole(made("prompt='a town at night'", f"seed={seed}", *how)) for seed in (3, 4))
    assert one.shape == (3, 64, 128) and not torch.equal(one, other)
    assert torch.equal(one, whole(made("prompt='a town at night'", "seed=3", *how)))


def test_regions_make_another_panorama_where_they_are() -> None:
    town = whole(made("prompt='a town at night'"))
    both = whole(made("prompt='a town at night'", "regions={left: 'a town at night', right: 'a desert at noon'}"))
    apart = (town - both).abs().mean((0, 1))
    assert apart[100:].mean() > 4 * apart[:28].mean()
    assert both[..., 100:].mean() > town[..., 100:].mean() + 0.1, "noon is brighter"


def test_a_run_goes_on_from_a_part(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (64, 40, 3), np.uint8)
    Image.fromarray(levels).save(tmp_path / "part.png")
    given = f"constraint.picture='{tmp_path}/part.png'"
    found = whole(made("prompt='a meadow at noon'", "constraint=outpaint", given, "constraint.at=1"))
    known = torch.from_numpy(levels.astype(np.float32) / 127.5 - 1).movedim(-1, 0)
    torch.testing.assert_close(found[..., 88:], known)


def test_a_run_makes_a_sphere() -> None:
    sphere_ = ["representation=sphere", "representation.height=64", "method.views=8", "method.iterations=2"]
    state, parts = build_run(compose("config", ["prompt='the sea at noon'", *sphere_]), CPU)
    list(optimise(state, parts))
    assert whole((state, parts)).shape == (3, 64, 128)
    assert parts.task.judged(state.result(), (64, 64))[0].shape == (16, 3, 64, 64)


@pytest.mark.parametrize("way", ["names", "masks"])
def test_regions_make_another_sphere_where_they_are(way: str, tmp_path: Path) -> None:
    """A quarter of it on either side of the middle of each region; where they meet, also at azimuth 180, both count."""
    said = "regions={left: 'a town at night', right: 'a desert at noon'}"
    if way == "masks":
        for name, columns in (("left", slice(0, 64)), ("right", slice(64, 128))):
            levels = np.zeros((64, 128), np.uint8)
            levels[:, columns] = 255
            Image.fromarray(levels).save(tmp_path / f"{name}.png")
        named = {"left": "a town at night", "right": "a desert at noon"}
        listed = ", ".join(f"{{mask: '{tmp_path}/{side}.png', prompt: '{prompt}'}}" for side, prompt in named.items())
        said = f"regions=[{listed}]"
    sphere_ = ["representation=sphere", "representation.height=64", "method.views=8", "method.iterations=2"]

    def made_sphere(*more: str) -> tuple[RunState, Parts]:
        state, parts = build_run(compose("config", ["prompt='a town at night'", *sphere_, *more]), CPU)
        assert [line["iteration"] for line in optimise(state, parts)] == [1, 2]
        return state, parts

    town, parted = made_sphere(), made_sphere(said)
    night, both = whole(town), whole(parted)
    apart = (night - both).abs().mean((0, 1))
    assert apart[80:112].mean() > 3 * apart[16:48].mean()
    assert both[..., 80:112].mean() > night[..., 80:112].mean() + 0.05, "noon is brighter"
    shown = parted[1].task.judged(parted[0].result(), (64, 64))
    assert len(shown) == 2 and all(0 < len(each) < 8 for each in shown), "of 16 crops those that see one region alone"


def test_cost_is_linear_in_the_width() -> None:
    """Windows of an iteration, and what is optimised: a panorama 16 times as wide has 16 times as many."""
    wide: list[dict[str, Any]] = [
        compose("config", ["prompt=x", "representation=panorama", f"representation.width={512 * times}"])
        for times in (1, 16)
    ]
    views = [each["method"]["views"] for each in wide]
    assert views == [8, 128]
    phi = [build_phi(each) for each in wide]
    assert phi[1].values.numel() == 16 * phi[0].values.numel() == 16 * 3 * 64 * 512
    high = compose("config", ["prompt=x", "representation=panorama", "representation.height=128"])
    assert high["method"]["views"] == 16


def build_phi(cfg: dict[str, Any]) -> Canvas:
    phi: Canvas = build(cfg["representation"], "representation", torch.nn.Module)
    return phi


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["task=panorama"], "task=panorama with representation SdfNerf: expected Canvas"),
        (["task=sphere"], "with representation SdfNerf: expected Canvas"),
        (["representation=panorama", "representation.width=x"], r"representation\.width=x: expected a whole number"),
        (["representation=panorama", "representation.width=0"], r"width=0: expected a whole number, 8 to 65536"),
        (["representation=panorama", "representation.width=1000000"], r"width=1000000: expected a whole number, 8 to"),
        (["representation=panorama", "representation.height=0"], r"height=0: expected a whole number, 8 to 8192"),
        (["representation=sphere", "representation.height=1000000"], r"height=1000000: expected a whole number, 8 to"),
        (["representation=sphere", "representation.height=3"], r"representation\.height=3: expected a whole number"),
    ],
)
def test_a_panorama_of_no_size_is_told(overrides: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        build_run(compose("config", overrides, prompt="a red car"), CPU)


def test_a_run_that_has_prompts_for_parts_alone_is_called_by_them() -> None:
    parts: Any = SimpleNamespace(regions=Regions(("a forest", "a town"), torch.ones(2, 1, 1) / 2))
    whole: Any = SimpleNamespace(regions=None)
    assert name_of("???", parts) == "a forest, a town"
    assert name_of("a valley", parts) == name_of("a valley", whole) == "a valley"
