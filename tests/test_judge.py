"""The judge: its network, file and scores, the wear it is trained on, and the weights that are shipped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from text23d import train_judge
from text23d.contracts import UserError, to_picture
from text23d.files import load_tensors, save_tensors
from text23d.judge import network, training
from text23d.judge.network import Classifier, Judge
from text23d.paths import conf_dir, weights_dir
from text23d.rng import generator
from text23d.train_prior import pictures
from text23d.world.colours import COLOURS
from text23d.world.dataset import Dataset, build_dataset
from text23d.world.kinds import KINDS

EMPTY = torch.tensor([0.0, 0.0, 0.0, -1.0])[:, None, None].expand(4, 64, 64)


def seeded(kinds: int = 3, colours: int = 5) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier(kinds, colours).eval()


def noise(count: int) -> Tensor:
    return torch.randn(count, 4, 64, 64, generator=generator(0, 0, 0, "test"))


def test_two_heads_and_independent_rows() -> None:
    classifier, x = seeded(), noise(3)
    with torch.no_grad():
        kinds, colours = classifier(x)
        alone = classifier(x[1:2])
    assert kinds.shape == (3, 3) and colours.shape == (3, 5)
    torch.testing.assert_close(torch.cat(alone, 1), torch.cat([kinds, colours], 1)[1:2], rtol=1e-4, atol=1e-5)
    assert torch.pdist(torch.cat([kinds, colours], 1)).min() > 1e-4


def test_a_judge_comes_back_rounded_to_float16(tmp_path: Path) -> None:
    judge = Judge(seeded(), ("car", "tree", "mug"), tuple(COLOURS)[:5], {"clean": {"kind": 0.5}})
    network.save(tmp_path / "judge.safetensors", judge)
    back = network.load(tmp_path / "judge.safetensors")
    assert (back.kinds, back.colours, back.card) == (judge.kinds, judge.colours, judge.card)
    rounded = seeded()
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.half().float())
        x = noise(2)
        torch.testing.assert_close(torch.cat(back.network(x), 1), torch.cat(rounded(x), 1))
    assert not back.network.training


def test_bad_weights_are_explained_in_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    network.save(good, Judge(seeded(), ("car", "tree", "mug"), tuple(COLOURS)[:5], {}))
    tensors, notes = load_tensors(good)
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:-1])
    save_tensors(tmp_path / "foreign.safetensors", tensors, {**notes, "format": "text23d-prior-1"})
    del tensors["kind.bias"]
    save_tensors(tmp_path / "partial.safetensors", tensors, notes)
    for name, problem in (
        ("missing", "no file"),
        ("cut", "cut short"),
        ("foreign", r"not a judge \(text23d-judge-1 expected\)"),
        ("partial", "does not fit the network"),
    ):
        with pytest.raises(UserError, match=problem) as raised:
            network.load(tmp_path / f"{name}.safetensors")
        assert f"{name}.safetensors" in str(raised.value) and "\n" not in str(raised.value)


class Says(nn.Module):
    """A classifier whose logits are written by hand."""

    def __init__(self, kinds: list[list[float]], colours: list[list[float]]) -> None:
        super().__init__()
        self.answer = torch.tensor(kinds), torch.tensor(colours)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.answer


def test_score_by_hand() -> None:
    """Two of three views show a tree, one of three is blue."""
    says = Says([[0.0, math.log(3)], [0.0, math.log(7)], [math.log(9), 0.0]], [[0.0, 2.0], [2.0, 0.0], [0.0, 1.0]])
    judge = Judge(cast(Classifier, says), ("car", "tree"), ("blue", "red"), {})
    score = judge.score(noise(3), "tree", "blue")
    e, e2 = math.e, math.e**2
    expected = {
        "kind_probability": (3 / 4 + 7 / 8 + 1 / 10) / 3,
        "kind_accuracy": 2 / 3,
        "colour_probability": (1 / (1 + e2) + e2 / (1 + e2) + 1 / (1 + e)) / 3,
        "colour_accuracy": 1 / 3,
    }
    assert score == pytest.approx(expected)
    assert judge.score(noise(3), "car", None) == pytest.approx(
        {"kind_probability": (1 / 4 + 1 / 8 + 9 / 10) / 3, "kind_accuracy": 1 / 3}
    )


def test_wear_leaves_an_empty_picture_empty_but_for_noise() -> None:
    worn = training.wear(EMPTY.repeat(32, 1, 1, 1), generator(0, 0, 0, "wear"))
    left = worn - EMPTY
    spread = left.flatten(1).std(1)
    assert spread.max() < 0.151 and spread.min() < 0.03 and spread.max() > 0.12
    mean = left.mean((2, 3)) / spread[:, None]
    assert mean.abs().max() < 5 / 64, "no colour and no coverage comes from nowhere"


def disc() -> Tensor:
    """An opaque red disc of radius 20 pixels [4, 64, 64] in picture space."""
    at = torch.arange(64) - 31.5
    alpha = (at[:, None].square() + at.square() < 20**2).float()[None]
    return to_picture(alpha * torch.tensor([0.8, 0.1, 0.1])[:, None, None], alpha)


def test_wear_keeps_what_there_is_to_see() -> None:
    """Moved and scaled within its limits, a red disc stays a red disc of about its size and place."""
    x = disc().repeat(32, 1, 1, 1)
    worn = training.wear(x, generator(1, 0, 0, "wear"))
    coverage = (worn[:, 3] + 1) / 2
    area = coverage.sum((1, 2)) / ((x[0, 3] + 1) / 2).sum()
    assert area.min() > 0.8**2 and area.max() < 1.25**2
    at = torch.arange(64) - 31.5
    for centre in ((coverage * at).sum((1, 2)), (coverage * at[:, None]).sum((1, 2))):
        offset = centre / coverage.sum((1, 2))
        assert offset.abs().max() < 8 and offset.std() > 1, "moved by up to 0.12 of half the side"
    middle = worn[:, :3, 28:36, 28:36].mean((2, 3))
    assert (middle[:, 0] > middle[:, 1] + 0.8).all() and (middle[:, 0] > middle[:, 2] + 0.8).all()


def test_wear_is_a_function_of_its_generator() -> None:
    x = disc().repeat(4, 1, 1, 1)
    once, again = (training.wear(x, generator(0, 0, 5, "wear")) for _ in range(2))
    assert torch.equal(once, again) and not torch.equal(once, training.wear(x, generator(0, 0, 6, "wear")))
    assert not torch.equal(once[0], once[1]), "every picture wears differently"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Fresh objects: every kind in every colour, seen twice, from a seed that no training uses."""
    return Dataset.open(build_dataset(tmp_path_factory.mktemp("world") / "fresh", 64, 2, 32, 0))


def test_labels_are_the_data_sets(world: Dataset) -> None:
    rows = np.array([0, 3, 17])
    kind, colour = train_judge.labels(world, rows, torch.device("cpu"))
    assert kind.tolist() == world.kind[rows].tolist() and colour.tolist() == world.colour[rows].tolist()
    assert kind.dtype == colour.dtype == torch.int64


def test_training_lowers_the_loss(world: Dataset) -> None:
    """A few steps on the same pictures already teach it their colours."""
    classifier, rows = seeded(len(KINDS), len(COLOURS)), np.arange(0, 128, 4)
    x, (kind, colour) = pictures(world.images[rows]), train_judge.labels(world, rows, torch.device("cpu"))
    optimiser = torch.optim.AdamW(classifier.parameters(), 3e-3)
    before = training.accuracy(classifier, x, kind, colour)
    losses = [training.train_step(classifier, optimiser, x, kind, colour) for _ in range(25)]
    assert losses[-1] < 0.75 * losses[0] and losses[0] == pytest.approx(2 * math.log(8), abs=0.3)
    after = training.accuracy(classifier, x, kind, colour)
    assert after["colour"] > max(before["colour"], 0.5) and 0 <= after["kind"] <= 1


def test_the_verb_writes_a_judge(world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_judge, "dataset", lambda *_: world)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train_judge", [f"folder={tmp_path}", "train.steps=2", "train.batch=4", "device=cpu"])
    train_judge.run(cfg)
    judge = network.load(tmp_path / "judge.safetensors")
    assert judge.kinds == tuple(KINDS) and judge.colours == tuple(COLOURS) and judge.card["steps"] == 2
    assert 0 <= judge.card["worn"]["kind"] <= 1


def test_the_shipped_judge(world: Dataset) -> None:
    path = weights_dir() / "judge.safetensors"
    assert path.stat().st_size <= 3 * 2**20
    judge = network.load()
    assert judge.kinds == tuple(KINDS) and judge.colours == tuple(COLOURS)
    rows = np.arange(len(world))
    x, labels = pictures(world.images[rows]), train_judge.labels(world, rows, torch.device("cpu"))
    named = training.accuracy(judge.network, x, *labels)
    worn = training.accuracy(judge.network, training.wear(x, generator(2, 0, 0, "wear")), *labels)
    assert min(named.values()) >= 0.9, named
    assert min(worn.values()) >= 0.8, worn
