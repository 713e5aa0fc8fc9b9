"""A world is one contract: one builder and the same trainers serve objects, and worlds of one and three dimensions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bumps import SIDE, Bump, Bumps

from text23d.contracts import World
from text23d.engine import judge_training, prior_training
from text23d.engine.training import load
from text23d.errors import UserError
from text23d.judge import network
from text23d.judge import training as judging
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin import training
from text23d.worlds.clips.world import Clips
from text23d.worlds.dataset import Recipe, open_or_build
from text23d.worlds.landscapes.world import Landscapes
from text23d.worlds.objects.world import Objects
from text23d.worlds.sounds.world import Sounds

CPU = torch.device("cpu")
WORLDS: dict[str, World[Any]] = {
    "objects": Objects(size=16),
    "landscapes": Landscapes(size=16),
    "sounds": Sounds(bins=16, frames=32),
    "clips": Clips(frames=4, size=16),
    "line": Bumps(1),
    "solid": Bumps(3),
}
NETWORK = {"patch": 2, "widths": [16, 16], "blocks": 1, "attention": [False, True], "embedding": 32, "text_width": 32}


def prior_settings(folder: Path, **train: Any) -> prior_training.Settings:
    data = prior_training.DataConfig(objects=24, views=2, validation=4)
    config = training.TrainConfig(**{"images": 32, "batch": 8, "warmup": 8} | train)
    return prior_training.Settings(str(folder), data, config, {**NETWORK, "sketch": 4})


def judge_settings(folder: Path, **train: Any) -> judge_training.Settings:
    data = judge_training.DataConfig(objects=64, views=2, test=16)
    return judge_training.Settings(str(folder), data, judging.TrainConfig(**{"steps": 4, "batch": 16} | train))


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_what_a_world_promises(world: World[Any], tmp_path: Path) -> None:
    """Captions are said, read, written and told to judges; examples are what their shapes and words say."""
    data = open_or_build(tmp_path / "set", Recipe(world, 12, 2, world.splits["training"]))
    assert len(set(world.splits.values())) == len(world.splits), "no two of them share examples"
    heads, rng = {head.name: head for head in world.heads}, np.random.default_rng(0)
    for caption in data.captions:
        assert world.read(world.say(caption)) == caption == world.caption(asdict(caption))
        for _ in range(4):
            said = world.say(caption, rng)
            assert set(world.tokens(said)) <= set(world.words)
        assert caption not in world.unseen
        for label in world.labels(caption):
            head = heads[label.head]
            assert label.answer in head.classes and label.place in (head.places or ("",))
    x, views = data.rows(np.arange(24))
    assert x.shape == (24, world.channels, *world.shape) and x.dtype == torch.float32
    assert (x.abs() <= 1).float().mean() > 0.97 and len(views) == 24 and len(views.features()) == 24
    angles = world.angles([data.caption(row) for row in range(24)], views)
    assert set(angles) == {name for name, head in heads.items() if head.how == "circular"}
    stream = torch.Generator().manual_seed(0)
    assert world.corrupt(x, stream).shape == world.scramble(x, stream).shape == x.shape
    captions, shown = world.showcase()
    assert len(captions) == len(shown) and world.shown(x).shape[:2] == (24, 4)
    assert all(world.labels(caption) for caption in captions)
    if world.unseen:
        judged = world.judged()
        every = (judged.example(1, index, 1).caption for index in range(2000))
        assert any(caption in world.unseen for caption in every), "which judges are shown"


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_one_trainer_of_priors_serves_every_world(world: World[Any], tmp_path: Path) -> None:
    path = prior_training.train_prior(world, prior_settings(tmp_path), CPU)
    prior = builtin.load(path)
    assert prior.shape == world.shape and prior.vocabulary.words == world.words
    _, views = world.showcase()
    c = prior.condition(world.say(world.showcase()[0][0]), views)
    x = torch.randn(len(views), world.channels, *world.shape)
    assert prior.denoiser(x, torch.tensor(1.0), c).shape == x.shape
    assert {"samples.png", "prior.md", "prior.json"} <= {each.name for each in tmp_path.iterdir()}
    card = path.with_suffix(".md").read_text()
    assert world.medium in card and all(fact in card for fact in world.facts())


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_one_trainer_of_judges_serves_every_world(world: World[Any], tmp_path: Path) -> None:
    path, judge = judge_training.train_judge(world, judge_settings(tmp_path), CPU)
    back = network.load(path)
    assert tuple(back.heads.values()) == world.heads and back.network.shape == world.shape
    assert judge.card["clean"].keys() <= back.heads.keys() and judge.card["steps"] == 4
    captions, _ = world.showcase()
    x = torch.randn(3, world.channels, *world.shape)
    scores = back.score(x, world.labels(captions[0]))
    assert all(0 <= value <= 1 for value in scores.values()) and len(scores) >= 4


def test_trainings_in_three_dimensions_do_not_read_fresh_memory(tmp_path: Path) -> None:
    """glibc fills what it hands out, which is zero otherwise as often as not."""
    tests = [f"{__file__}::test_one_trainer_of_{what}_serves_every_world[solid]" for what in ("priors", "judges")]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/made"]
    environment = {**os.environ, "MALLOC_PERTURB_": "129"}
    done = subprocess.run([*command, *tests], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout[-2000:]


@pytest.mark.parametrize(("dimensions", "images", "loss"), [(1, 800, 0.7), (3, 240, 0.5)])
def test_a_prior_of_another_dimension_learns(dimensions: int, images: int, loss: float, tmp_path: Path) -> None:
    """Its loss at a level where an untrained network's is 1 falls well below."""
    settings = prior_settings(tmp_path, images=images, lr=4e-3, batch=16)
    table = builtin.load(prior_training.train_prior(Bumps(dimensions), settings, CPU)).table
    assert np.interp(1.0, table["sigma"], table["loss"]) < loss


def test_a_judge_of_sounds_learns(tmp_path: Path) -> None:
    world = Bumps(1)
    _, judge = judge_training.train_judge(world, judge_settings(tmp_path, steps=60, batch=32), CPU)
    assert min(judge.card["clean"].values()) > 0.75, judge.card
    made = world.judged().example(9, 0, 8)
    x, views = world.decode(made.arrays)
    opinion = judge.look(x)
    off = (judge.angles(opinion, "turn") - views.angle + 180) % 360 - 180
    assert off.abs().median() <= 45


@pytest.mark.parametrize(
    "train",
    [
        lambda folder: prior_training.train_prior(Bumps(1), prior_settings(folder, images=16), CPU),
        lambda folder: judge_training.train_judge(Bumps(1), judge_settings(folder, steps=2), CPU),
    ],
    ids=["prior", "judge"],
)
def test_the_same_command_again_changes_nothing(tmp_path: Path, train: Callable[[Path], Any]) -> None:
    train(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    train(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == first and len(first) == 2


def test_a_network_that_does_not_fit_the_world_is_refused(tmp_path: Path) -> None:
    settings = prior_settings(tmp_path)
    for network_, problem in (
        ({**NETWORK, "patch": [2, 2]}, r"network\.patch=\(2, 2\): expected a number, or 1 of them"),
        ({**NETWORK, "patch": 3}, r"it sees multiples of \(6,\), the world has \(16,\)"),
        ({**NETWORK, "depth": 3}, r"no setting named network\.depth"),
    ):
        with pytest.raises(UserError, match=problem):
            prior_training.train_prior(
                Bumps(1), prior_training.Settings(settings.folder, settings.data, settings.train, network_), CPU
            )


def test_a_training_of_another_world_is_refused(tmp_path: Path) -> None:
    judge_training.train_judge(Bumps(1), judge_settings(tmp_path / "a"), CPU)
    prior_training.train_prior(Bumps(1), prior_settings(tmp_path / "b"), CPU)
    judge = judging.TrainState.fresh(Objects(size=16), judging.TrainConfig(), CPU, torch.float32)
    for folder in "ab":
        with pytest.raises(UserError, match="another training, or is damaged"):
            load(tmp_path / folder / "training.safetensors", judge)


def test_bumps_are_where_their_turn_says() -> None:
    """The one-dimensional world against its definition, and higher ones against it along their middle."""
    made = Bumps(1).example(5, 0, 4)
    for row, turn in zip(made.arrays["values"], made.arrays["turn"][:, 0], strict=True):
        assert abs(int(row[1].argmax()) + 0.5 - turn / 360 * SIDE) <= 0.5 + 1e-4
        assert isinstance(made.caption, Bump) and (row[0].max() > 0.5) == (made.caption.sign == "positive")
    solid = Bumps(3).example(5, 0, 4).arrays["values"]
    middle = solid[:, :, :, SIDE // 2, SIDE // 2]
    assert np.corrcoef(middle[:, 1].ravel(), made.arrays["values"][:, 1].ravel())[0, 1] > 0.999
