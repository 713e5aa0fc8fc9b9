"""Prompts for parts of a canvas: what a configuration says, the weights that it makes, and their blend in D."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from text23d.compose import compose, register_resolvers
from text23d.door import commandline
from text23d.door.layout import configuration
from text23d.door.overrides import check
from text23d.engine.build import build_run
from text23d.errors import UserError
from text23d.guide import Guide
from text23d.paths import conf_dir
from text23d.prior.wrappers.batches import in_batches
from text23d.prior.wrappers.guidance import Guided
from text23d.prior.wrappers.regional import Blend, regional
from text23d.representation.windowing import WindowSampler
from text23d.rng import generator
from text23d.tasks.regions import Axis, Regions, read_regions
from text23d.windows import Windows

WIDE = Axis((2, 12), 1, 12.0, "parts of the width", 4)
SECONDS = Axis((40,), 0, 4.0, "seconds", 0)


def read(said: Any, axis: Axis = WIDE, masks: Any = None) -> Regions:
    found = read_regions(said, axis, masks)
    assert found is not None
    return found


def test_parts_by_name_share_the_axis() -> None:
    found = read({"right": "a beach", "left": "mountains"})
    assert found.prompts == ("a beach", "mountains") and found.weights.shape == (2, 2, 12)
    ramp = torch.tensor([1.0, 1, 1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0, 0, 0])
    torch.testing.assert_close(found.weights[1], ramp.expand(2, 12))
    torch.testing.assert_close(found.weights.sum(0), torch.ones(2, 12))
    thirds = read({"left": "a", "centre": "b", "right": "c"}).weights
    assert thirds[:, 0, [0, 11]].tolist() == [[1, 0], [0, 0], [0, 1]] and thirds[:, 0, 6].argmax() == 1


def test_parts_by_range_are_in_units() -> None:
    found = read({"0-2.5": "a", "2.5-10": "b"}, SECONDS)
    assert found.weights[0].tolist() == [1.0] * 10 + [0.0] * 30


def test_the_ends_of_a_ring_are_blended_too() -> None:
    wrapped = read({"left": "a", "right": "b"}, Axis((12,), 0, 12.0, "parts", 4, wrap=True)).weights
    torch.testing.assert_close(wrapped.sum(0), torch.ones(12))
    assert wrapped[0, 0].item() == wrapped[0, 5].item() == pytest.approx(0.625)
    torch.testing.assert_close(wrapped[0], wrapped[1].roll(6))


def test_views_know_the_region_that_they_show() -> None:
    found, views = read({"left": "a", "right": "b"}), Windows(torch.tensor([[0, 0], [0, 3], [0, 8]]), (False, False))
    assert found.alone(views, (2, 4)).tolist() == [0, -1, 1]


def halves(path: Path, setting: str, shape: tuple[int, ...]) -> Tensor:
    left = (torch.arange(shape[1]) < shape[1] // 2).float().expand(shape)
    return {"left": left, "right": 1 - left, "all": torch.ones(shape)}[path.name]


def test_parts_by_picture() -> None:
    found = read([{"mask": "left", "prompt": "a"}, {"mask": "right", "prompt": "b"}], masks=halves)
    assert found.prompts == ("a", "b") and torch.equal(found.weights.sum(0), torch.ones(2, 12))


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("left", r"regions=left: expected a prompt for each part"),
        ({}, r"regions=\{\}: expected a prompt"),
        ([], r"regions=\[\]: expected a prompt"),
        ({"up": "a"}, r"regions\.up: expected a range such as 0-2\.5 in parts of the width"),
        ({"left": "a", "end": "b"}, r"regions\.left: expected a range"),
        ({"left": ""}, r"regions\.left=: expected a prompt"),
        ({"left": 3}, r"regions\.left=3: expected a prompt"),
        ({"0-0.6": "a", "0.5-1": "b"}, r"regions overlap at 0\.5 parts of the width"),
        ({"0-0.4": "a", "0.5-1": "b"}, r"regions leave a hole at 0\.4 parts"),
        ({"0.1-1": "a"}, r"regions leave a hole at 0 parts"),
        ({"0-0.5": "a"}, r"regions end at 0\.5 of 1 parts of the width: let the last one end at 1"),
        ({"0-2": "a"}, r"regions\.0-2: expected a rising range in parts of the width within 0-1"),
        ({"0.5-0.5": "a"}, r"expected a rising range"),
        ({f"{i}-{i + 1}": "a" for i in range(70)}, r"\.\.\.\}: expected a prompt for each part"),
        ([{"mask": "left", "prompt": "a"}], r"regions: the masks leave holes on 50 % of the picture"),
        ([{"mask": "left", "prompt": "a"}, {"mask": "all", "prompt": "b"}], r"the masks overlap on 50 %"),
        ([{"mask": "left"}], r"regions=\[\{mask: left\}\]: expected"),
        ([3], r"regions=\[3\]: expected"),
    ],
)
def test_what_is_told_of_parts_that_do_not_serve(said: Any, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        read(said, masks=halves)
    assert "\n" not in str(error.value)


def test_pictures_are_for_pictures() -> None:
    with pytest.raises(UserError, match="expected a prompt for each part"):
        read([{"mask": "left", "prompt": "a"}], SECONDS)


class Says:
    """A prior of sounds whose D moves towards what it is told: c [B] a level, or NaN for nothing."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        self.seen += len(x)
        level = torch.where(c.level.isnan(), -5.0, c.level) + sigma
        return x / 2 + level.reshape(-1, 1, 1)


class Level:
    def __init__(self, level: Tensor) -> None:
        self.level = level

    def rows(self, which: Any) -> Level:
        return Level(self.level[which])

    def unconditional(self) -> Level:
        return Level(torch.full_like(self.level, torch.nan))

    @staticmethod
    def cat(parts: Any) -> Level:
        return Level(torch.cat([each.level for each in parts]))


def told(level: float) -> Any:
    def conditions(views: Windows) -> tuple[Level, Level]:
        c = Level(torch.full((len(views),), level))
        return c, c

    return conditions


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_prompts_are_blended_in_D(scale: float) -> None:
    """Against D under each prompt for all views, weighted at each place."""
    D = Says()
    main = Guided(D, scale) if scale != 1 else D
    guide = Guide(main, D, shape=(6,), conditions=told(1.0), others=[told(2.0), told(7.0)])
    weights = read({"start": "a", "middle": "b", "end": "c"}, Axis((60,), 0, 6.0, "seconds", 10)).weights
    views = WindowSampler((60,), (6,)).sample(9, generator(0, 0, 0, "test"))
    blended = regional(guide, weights).conditioned_on(views)
    assert blended.shared and len(blended.c) == 9
    x, sigma = torch.randn(9, 1, 6, generator=generator(0, 0, 1, "test")), torch.tensor(0.5)
    D.seen = 0
    expected_aux, expected = torch.zeros_like(x), torch.zeros_like(x)
    for index, level in enumerate((1.0, 2.0, 7.0)):
        alone = Guide(main, D, shape=(6,), conditions=told(level)).conditioned_on(views)
        weight = views.cut(weights[index : index + 1], (6,))
        expected_aux += weight * alone.D_aux(x, sigma)
        expected += weight * alone.D(x, sigma)
    torch.testing.assert_close(blended.D_aux(x, sigma), expected_aux)
    torch.testing.assert_close(blended.D(x, sigma), expected)
    torch.testing.assert_close(blended.D_given(x, sigma, expected_aux), expected)
    torch.testing.assert_close(in_batches(blended, 2).D(x, sigma.expand(9)), expected)
    D.seen = 0
    blended.D_aux(x, sigma)
    assert 9 <= D.seen < 18, "prompts are asked for where they count"


def test_rows_of_a_blend_are_those_of_its_examples() -> None:
    blend = Blend(Level(torch.arange(4.0)), torch.tensor([0, 1, 1, 2]), torch.ones(4, 1, 3), 3)
    part = blend.rows(slice(1, 3))
    assert len(part) == 2 and part.example.tolist() == [0, 0, 1] and part.c.level.tolist() == [1.0, 2.0, 3.0]
    joined = Blend.cat([part, blend])
    assert joined.example.tolist() == [0, 0, 1, 2, 3, 3, 4] and len(joined) == 5


def test_a_prior_without_prompts_has_no_regions() -> None:
    with pytest.raises(UserError, match="this prior reads no prompts"):
        regional(Guide(Says(), Says(), shape=(6,)), torch.ones(2, 12) / 2)


@pytest.mark.parametrize(
    ("said", "prompt"),
    [
        (["regions={left: snowy mountains, right: a beach}"], "snowy mountains, a beach"),
        (["regions=[{mask: a.png, prompt: 'a beach, at night'}]"], "a beach, at night"),
        (["regions={left: a}", "prompt=mine"], "mine"),
    ],
)
def test_a_run_is_named_after_its_parts(said: list[str], prompt: str) -> None:
    register_resolvers()
    for multirun in (False, True):
        with configuration(conf_dir()):
            _, cfg = check("config", commandline.named(said, multirun), multirun, runs=False)
        assert cfg.prompt == prompt


def test_an_object_has_no_parts() -> None:
    cfg = compose("config", regions={"left": "a red car", "right": "a blue car"}, prompt="a red car")
    with pytest.raises(UserError, match="regions: this has one prompt"):
        build_run(cfg, torch.device("cpu"))
