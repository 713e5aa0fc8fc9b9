"""Training of the judge: its targets, loss and accuracies by hand, its rates, and the verb."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from text23d import train_judge
from text23d.contracts import Head, Label
from text23d.engine import judge_training
from text23d.errors import UserError
from text23d.judge import network, training
from text23d.judge.network import WIDTH, Opinion
from text23d.judge.training import IGNORED, TrainConfig, TrainState, one_cycle
from text23d.paths import conf_dir
from text23d.rng import generator
from text23d.worlds.dataset import Dataset, Recipe, open_or_build
from text23d.worlds.objects.caption import part_words
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.world import AZIMUTHS, Objects

CPU = torch.device("cpu")
HEADS = (
    Head("kind", "global", ("car", "tree")),
    Head("colour", "located", ("blue", "red")),
    Head("part", "located", ("blue", "red"), ("roof", "wheels")),
    Head("azimuth", "circular", tuple(f"{15 * index}" for index in range(AZIMUTHS))),
)


def log(*odds: list[float]) -> Tensor:
    return torch.tensor(odds).log()


# The loss and the accuracies


def smoothed(logits: Tensor, target: int) -> float:
    """Cross entropy with 5 % of the label spread over all classes."""
    likelihood = logits.log_softmax(-1)
    return -(0.95 * likelihood[target] + 0.05 * likelihood.mean()).item()


def test_the_loss_by_hand() -> None:
    """Each head's mean over the pictures that are told its answer; azimuths as a bell around the true one."""
    shapes = {"kind": (3,), "colour": (2,), "part": (2, 2), "azimuth": (AZIMUTHS,)}
    stream = generator(1, 0, 0, "t")
    logits = {name: torch.randn(3, *shape, generator=stream) for name, shape in shapes.items()}
    kind, colour, part, azimuth = logits.values()
    opinion = Opinion(logits, torch.zeros(3, WIDTH))
    told = {
        "kind": torch.tensor([0, 2, 1]),
        "colour": torch.tensor([1, IGNORED, 0]),
        "part": torch.tensor([[IGNORED, 1], [IGNORED] * 2, [0, 0]]),
        "azimuth": torch.tensor([350.0, math.nan, 90.0]),
    }
    bells = []
    for row in (0, 2):
        apart = [abs((told["azimuth"][row].item() - 15.0 * each + 180) % 360 - 180) for each in range(AZIMUTHS)]
        weight = [math.exp(-((each / 15) ** 2) / 2) for each in apart]
        found = azimuth[row].log_softmax(-1).tolist()
        bells.append(-sum(w * f for w, f in zip(weight, found, strict=True)) / sum(weight))
    expected = sum(smoothed(kind[row], right) for row, right in enumerate((0, 2, 1))) / 3
    expected += (smoothed(colour[0], 1) + smoothed(colour[2], 0)) / 2
    parts = (smoothed(part[0, 1], 1) + smoothed(part[2, 0], 0) + smoothed(part[2, 1], 0)) / 3
    assert training.loss(HEADS, opinion, told).item() == pytest.approx(
        expected + parts + 0.5 * sum(bells) / 2, rel=1e-5
    )
    untold = told | {"part": torch.full((3, 2), IGNORED), "azimuth": torch.full((3,), math.nan)}
    assert training.loss(HEADS, opinion, untold).item() == pytest.approx(expected, rel=1e-5)


def test_accuracies_by_hand() -> None:
    """Of pictures that look like none of them, tree, car; red, blue, red; from 0, 75 and 345 degrees."""
    opinion = Opinion(
        {
            "kind": log([1, 3, 4], [1, 7, 2], [8, 1, 1]),
            "colour": log([1, 3], [3, 1], [1, 4]),
            "part": torch.stack([log([1, 1], [1, 3], [4, 1]), log([9, 1], [1, 9], [1, 9])], 1),
            "azimuth": torch.nn.functional.one_hot(torch.tensor([0, 5, 23]), AZIMUTHS).float(),
        },
        torch.zeros(3, WIDTH),
    )
    told = {
        "kind": torch.tensor([1, 1, 0]),
        "colour": torch.tensor([1, 1, 1]),
        "part": torch.tensor([[IGNORED, 0], [1, 0], [IGNORED, IGNORED]]),
        "azimuth": torch.tensor([math.nan, 106.0, 14.9]),
    }
    expected = {"kind": 2 / 3, "colour": 2 / 3, "part": 2 / 3, "azimuth": 1 / 2}
    assert training.accuracy(HEADS, opinion, told) == pytest.approx(expected)
    bare = told | {"part": torch.full((3, 2), IGNORED), "azimuth": torch.full((3,), math.nan)}
    found = training.accuracy(HEADS, opinion, bare)
    assert found == pytest.approx({"kind": 2 / 3, "colour": 2 / 3}), "no share of nothing"


# What a step is given


def test_targets_by_hand() -> None:
    labels = [
        (Label("kind", "tree"), Label("colour", "red"), Label("part", "blue", "wheels")),
        (Label("kind", "car"),),
    ]
    found = training.targets(HEADS, labels, {"azimuth": torch.tensor([5.0, math.nan])}, CPU)
    assert {name: each.tolist() for name, each in found.items() if name != "azimuth"} == {
        "kind": [1, 0],
        "colour": [1, IGNORED],
        "part": [[IGNORED, 0], [IGNORED, IGNORED]],
    }
    assert found["azimuth"][0] == 5 and found["azimuth"][1].isnan()


def test_some_examples_are_scrambled_and_tell_nothing_else() -> None:
    """The first SCRAMBLED_SHARE are labelled as none of the kinds, without colour, part or side."""
    count, world = 25, Objects()
    x = torch.randn(count, 4, 64, 64, generator=generator(0, 0, 0, "test"))
    told = {
        "kind": torch.arange(count) % 2,
        "colour": torch.arange(count) % 2,
        "part": torch.zeros(count, 2, dtype=torch.int64),
        "azimuth": torch.zeros(count),
    }
    seen, found = training.hardened(world, HEADS, x, told, generator(0, 0, 0, "wear"))
    scrambled = int(training.SCRAMBLED_SHARE * count)
    assert scrambled == 3 and found["kind"].tolist() == [2] * scrambled + told["kind"][scrambled:].tolist()
    assert found["colour"].tolist() == [IGNORED] * scrambled + told["colour"][scrambled:].tolist()
    assert (found["part"][:scrambled] == IGNORED).all() and (found["part"][scrambled:] == 0).all()
    assert found["azimuth"][:scrambled].isnan().all() and (found["azimuth"][scrambled:] == 0).all()
    assert told["kind"][0] == 0, "what came in stays as it was"
    stream = generator(0, 0, 0, "wear")
    pieces = world.scramble(x[:scrambled], stream)
    assert torch.equal(seen, world.corrupt(torch.cat([pieces, x[scrambled:]]), stream))


@pytest.mark.parametrize("steps", [1, 2, 4, 10, 3000])
def test_rates_are_those_of_torchs_one_cycle(steps: int) -> None:
    optimiser = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    for step in range(steps):
        group = optimiser.param_groups[0]
        assert one_cycle(step, steps, 2e-3) == (group["lr"], group["betas"][0]), step
        optimiser.step()
        if step + 1 < steps:
            schedule.step()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Fresh objects: every kind once, seen twice, from a seed that no training uses."""
    return open_or_build(tmp_path_factory.mktemp("world") / "fresh", Recipe(Objects().judged(), len(KINDS), 2, 32))


def test_labels_are_the_captions(world: Dataset) -> None:
    kinds, colours, words = list(KINDS), list(COLOURS), part_words()
    rows = np.arange(len(world))
    x, found = judge_training.labelled(world, rows, CPU)
    assert torch.equal(x, world.rows(rows)[0])
    for row in rows:
        caption = world.caption(int(row))
        assert kinds[found["kind"][row]] == caption.kind and colours[found["colour"][row]] == caption.colour
        parts = {(words[i], colours[each]) for i, each in enumerate(found["part"][row].tolist()) if each != IGNORED}
        assert parts == set(caption.parts)
        azimuth = found["azimuth"][row].item()
        assert azimuth == world.arrays["camera"][row, 0] if KINDS[caption.kind].front else math.isnan(azimuth)
    assert found["kind"].dtype == found["colour"].dtype == found["part"].dtype == torch.int64
    assert (found["part"] != IGNORED).any() and found["azimuth"].isnan().any()


def test_training_lowers_the_loss(world: Dataset) -> None:
    """A few steps on the same pictures already teach it some of what they show."""
    state = TrainState.fresh(world.world, TrainConfig(steps=25, lr=3e-3), CPU, torch.float32)
    x, told = judge_training.labelled(world, np.arange(0, len(world), 2), CPU)
    heads, losses = world.world.heads, []

    def clean() -> float:
        with torch.no_grad():
            return training.loss(heads, state.network(x), told).item()

    before = clean()
    for step in range(25):
        batch = training.hardened(world.world, heads, x, told, generator(0, 0, step, "wear"))
        losses.append(state.accumulate(batch))
        state.advance(batch)
    chance = math.log(len(KINDS) + 1) + 2 * math.log(len(COLOURS)) + 0.5 * math.log(AZIMUTHS)
    assert losses[0] == pytest.approx(chance, abs=0.5)
    assert clean() < 0.85 * before and np.mean(losses[-3:]) < 0.9 * losses[0]


# The verb


def settings(*overrides: str) -> list[str]:
    return ["train.steps=2", "train.batch=4", "device=cpu", *overrides]


def test_the_verb_writes_a_judge(world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Recipe] = []

    def dataset(folder: Path, recipe: Recipe, *_: Any) -> Dataset:
        asked.append(recipe)
        return world

    monkeypatch.setattr(judge_training, "open_or_build", dataset)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train_judge", settings(f"folder={tmp_path}"))
    train_judge.run(cfg)
    judge = network.load(tmp_path / "judge.safetensors")
    assert tuple(judge.heads.values()) == Objects().heads
    assert judge.card["steps"] == 2 and judge.card["objects"] == cfg.data.objects
    for how in ("clean", "corrupted"):
        assert judge.card[how].keys() == {"kind", "colour", "part", "azimuth"}
        assert all(0 <= share <= 1 for share in judge.card[how].values())
    assert [recipe.seed for recipe in asked] == [7001, 8001], "other seeds than the prior's 1 and 1001"
    for recipe in asked:
        shown = recipe.world
        assert isinstance(shown, Objects) and shown.held_out and not shown.pairs and shown.light_variation > 1


@pytest.mark.parametrize("override", ["train.steps=0", "train.steps=2.5", "train.batch=0", "train.batch=many"])
def test_the_verb_refuses(tmp_path: Path, override: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train_judge", settings(f"folder={tmp_path / 'made'}", override))
    with pytest.raises(UserError, match=f"{override}: expected a whole number, at least 1"):
        train_judge.run(cfg)
    assert list(tmp_path.iterdir()) == []
