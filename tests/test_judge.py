"""The judge: its network, file and scores, the wear it is trained on, and the weights that are shipped."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from text23d import train_judge
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.judge import network, training
from text23d.judge.network import AZIMUTHS, WIDTH, Asked, Classifier, Judge, Opinion
from text23d.judge.training import NOT_TOLD, Labels
from text23d.paths import conf_dir, weights_dir
from text23d.rng import generator
from text23d.spaces import to_picture
from text23d.worlds.objects.caption import part_words
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.dataset import Dataset, Recipe, build_dataset, pictures
from text23d.worlds.objects.kinds import KINDS

EMPTY = torch.tensor([0.0, 0.0, 0.0, -1.0])[:, None, None].expand(4, 64, 64)
FIELDS = ("kind", "colour", "part", "azimuth", "features")
CLASSES = ("car", "tree", "mug"), ("blue", "red", "white", "black", "green"), ("roof", "wheels")


def seeded(kinds: int = 3, colours: int = 5, parts: int = 2) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier(kinds, colours, parts).eval()


def noise(count: int) -> Tensor:
    return torch.randn(count, 4, 64, 64, generator=generator(0, 0, 0, "test"))


# The network and its file


def test_heads_and_independent_rows() -> None:
    classifier, x = seeded(), noise(3)
    with torch.no_grad():
        seen, alone = classifier(x), classifier(x[1:2])
    shapes = [tuple(getattr(seen, name).shape) for name in FIELDS]
    assert shapes == [(3, 4), (3, 5), (3, 2, 5), (3, AZIMUTHS), (3, WIDTH)], "one kind more: none of them"
    for name in FIELDS:
        torch.testing.assert_close(getattr(alone, name), getattr(seen, name)[1:2], rtol=1e-4, atol=1e-5)
        assert torch.pdist(getattr(seen, name).flatten(1)).min() > 1e-4


def test_colours_are_read_where_their_places_are() -> None:
    """A second implementation, place by place: the thing's own map first, then one for each word of a part."""
    classifier, x = seeded(), noise(1)
    with torch.no_grad():
        seen, h = classifier(x), x
        for stage in list(classifier.stages)[:-1]:
            h = stage(h)
        h = torch.nn.functional.silu(h)
        maps, found = classifier.place(h)[0].flatten(1).exp(), classifier.look(h)[0].flatten(1)
        for index, logits in enumerate([seen.colour[0], *seen.part[0]]):
            mean = sum(w * found[:, at] for at, w in enumerate(maps[index])) / maps[index].sum()
            torch.testing.assert_close(logits, classifier.colour(mean), rtol=1e-4, atol=1e-5)
    assert (maps / maps.sum(1, keepdim=True)).std(1).min() > 1e-4, "or every place counts the same"


def test_looking_in_pieces_is_looking() -> None:
    """More pictures than one piece holds, in their order, and without gradients."""
    x = noise(70)
    seen = Judge(seeded(), *CLASSES, {}).look(x)
    with torch.no_grad():
        last = seeded()(x[64:])
    for name in FIELDS:
        torch.testing.assert_close(getattr(seen, name)[64:], getattr(last, name), rtol=1e-4, atol=1e-5)
        assert len(getattr(seen, name)) == 70 and not getattr(seen, name).requires_grad


def test_a_judge_comes_back_rounded_to_float16(tmp_path: Path) -> None:
    judge = Judge(seeded(), *CLASSES, {"clean": {"kind": 0.5}})
    network.save(tmp_path / "judge.safetensors", judge)
    back = network.load(tmp_path / "judge.safetensors")
    assert (back.kinds, back.colours, back.parts, back.card) == (*CLASSES, {"clean": {"kind": 0.5}})
    rounded = seeded().requires_grad_(False)
    for parameter in rounded.parameters():
        parameter.copy_(parameter.half().float())
    for name in FIELDS:
        torch.testing.assert_close(getattr(back.network(noise(2)), name), getattr(rounded(noise(2)), name))
    assert not back.network.training and not any(p.requires_grad for p in back.network.parameters())
    network.save(tmp_path / "again.safetensors", back)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "judge.safetensors").read_bytes()


def test_bad_weights_are_explained_in_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    network.save(good, Judge(seeded(), *CLASSES, {}))
    tensors, facts = load_tensors(good, "judge")
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:-1])
    save_tensors(tmp_path / "older.safetensors", tensors, "judge", {**facts, "format": "text23d-judge-1"})
    save_tensors(tmp_path / "foreign.safetensors", tensors, "prior", facts)
    del tensors["kind.bias"]
    save_tensors(tmp_path / "partial.safetensors", tensors, "judge", facts)
    for name, problem in (
        ("missing", "no file"),
        ("cut", "cut short"),
        ("older", r"not a judge \(text23d-judge-2 expected\)"),
        ("foreign", "is of the kind prior: expected one of the kind judge"),
        ("partial", "does not fit the network"),
    ):
        with pytest.raises(UserError, match=problem) as raised:
            network.load(tmp_path / f"{name}.safetensors")
        assert f"{name}.safetensors" in str(raised.value) and "\n" not in str(raised.value)


# What it says of pictures


class Says(nn.Module):
    """A classifier whose opinion is written by hand."""

    def __init__(self, opinion: Opinion) -> None:
        super().__init__()
        self.opinion = opinion

    def forward(self, x: Tensor) -> Opinion:
        return self.opinion


def log(*odds: list[float]) -> Tensor:
    return torch.tensor(odds).log()


# Three pictures, of cars, trees or nothing known; blue or red; the roof's and the wheels' colours; seen from the front.
OPINION = Opinion(
    kind=log([1, 3, 4], [1, 7, 2], [8, 1, 1]),
    colour=log([1, 3], [3, 1], [1, 4]),
    part=torch.stack([log([1, 1], [1, 3], [4, 1]), log([9, 1], [1, 9], [1, 9])], 1),
    azimuth=torch.nn.functional.one_hot(torch.tensor([0, 5, 23]), AZIMUTHS).float(),
    features=torch.zeros(3, WIDTH),
)
JUDGE = Judge(cast(Classifier, Says(OPINION)), ("car", "tree"), ("blue", "red"), ("roof", "wheels"), {})


def test_score_by_hand() -> None:
    """One of three is a tree: the first is more likely nothing known."""
    assert JUDGE.score(noise(3), Asked("tree", "blue")) == pytest.approx(
        {
            "kind_probability": (3 / 8 + 7 / 10 + 1 / 10) / 3,
            "kind_accuracy": 1 / 3,
            "colour_probability": (1 / 4 + 3 / 4 + 1 / 5) / 3,
            "colour_accuracy": 1 / 3,
        }
    )
    assert JUDGE.score(noise(3), Asked("car")) == pytest.approx(
        {"kind_probability": (1 / 8 + 1 / 10 + 8 / 10) / 3, "kind_accuracy": 1 / 3}
    )


def test_parts_are_scored_together_by_hand() -> None:
    roof = {"part_probability": (1 / 2 + 3 / 4 + 1 / 5) / 3, "part_accuracy": 1 / 3}
    one = JUDGE.score(noise(3), Asked("car", "red", (("roof", "red"),)))
    assert {name: one[name] for name in roof} == pytest.approx(roof)
    both = JUDGE.score(noise(3), Asked("car", "red", (("wheels", "blue"), ("roof", "red"))))
    wheels = {"part_probability": (9 / 10 + 1 / 10 + 1 / 10) / 3, "part_accuracy": 1 / 3}
    expected = {name: (roof[name] + wheels[name]) / 2 for name in roof}
    assert {name: both[name] for name in roof} == pytest.approx(expected)
    assert both["kind_accuracy"] == one["kind_accuracy"] and len(both) == 6


def test_likelihood_by_hand() -> None:
    """A product over what was asked and nothing else."""
    for asked, expected in (
        (Asked("car"), [1 / 8, 1 / 10, 8 / 10]),
        (Asked("tree", "red"), [3 / 8 * 3 / 4, 7 / 10 / 4, 1 / 10 * 4 / 5]),
        (Asked("car", None, (("roof", "blue"),)), [1 / 8 / 2, 1 / 10 / 4, 8 / 10 * 4 / 5]),
        (Asked("car", "blue", (("roof", "blue"), ("wheels", "red"))), [1 / 640, 27 / 1600, 0.8 / 5 * 0.8 * 0.9]),
    ):
        found = JUDGE.log_likelihood(OPINION, asked).exp()
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-6)


def test_azimuths_in_degrees() -> None:
    assert JUDGE.azimuth(OPINION).tolist() == [0.0, 75.0, 345.0]


# What it is trained on


def test_wear_leaves_an_empty_picture_empty_but_for_noise_and_background() -> None:
    worn = training.wear(EMPTY.repeat(64, 1, 1, 1), generator(0, 0, 0, "wear"))
    left = worn - EMPTY
    spread = left.std((2, 3))  # within each channel
    assert spread.max() < 0.16 and 0 <= spread.min() < 0.03 and spread.max() > 0.12
    mean = left.mean((2, 3))
    assert (mean[:, 3].abs() < 5 * spread[:, 3] / 64).all(), "no coverage comes from nowhere"
    coloured = (mean[:, :3].abs() > 0.02).any(1)
    assert 0.2 < coloured.float().mean() < 0.6 and mean.abs().max() < 0.75, "before backgrounds, four of ten"
    assert mean[coloured, :3].std(1).mean() > 0.1, "of any colour"


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


def tiles(x: Tensor, side: int) -> list[bytes]:
    """The square pieces of a picture [4, 64, 64], sorted."""
    cut = x.unfold(1, side, side).unfold(2, side, side).flatten(1, 2).transpose(0, 1)
    return sorted(each.contiguous().numpy().tobytes() for each in cut)


def test_a_broken_picture_has_the_same_pieces_elsewhere() -> None:
    x, sides = noise(6), set()
    for seed in range(8):
        found = training.broken(x, generator(seed, 0, 0, "broken"))
        side = 16 if tiles(found[0], 16) == tiles(x[0], 16) else 8
        assert all(tiles(a, side) == tiles(b, side) for a, b in zip(found, x, strict=True))
        kept = (found == x).all(1).float().mean((1, 2))
        assert kept.max() < 0.4 and len({each.item() for each in kept}) > 1, "each in an order of its own"
        sides.add(side)
    assert sides == {8, 16}


# The loss and the accuracies


def smoothed(logits: Tensor, target: int) -> float:
    """Cross entropy with 5 % of the label spread over all classes."""
    likelihood = logits.log_softmax(-1)
    return -(0.95 * likelihood[target] + 0.05 * likelihood.mean()).item()


def test_the_loss_by_hand() -> None:
    """Each head's mean over the pictures that are told its answer; azimuths as a bell around the true one."""
    logits = [torch.randn(3, *shape, generator=generator(1, 0, 0, "t")) for shape in ((3,), (2,), (2, 2), (AZIMUTHS,))]
    kind, colour, part, azimuth = logits
    opinion = Opinion(kind, colour, part, azimuth, torch.zeros(3, WIDTH))
    labels = Labels(
        torch.tensor([0, 2, 1]),
        torch.tensor([1, NOT_TOLD, 0]),
        torch.tensor([[NOT_TOLD, 1], [NOT_TOLD] * 2, [0, 0]]),
        torch.tensor([350.0, math.nan, 90.0]),
    )
    bells = []
    for row in (0, 2):
        apart = [abs((labels.azimuth[row].item() - 15.0 * each + 180) % 360 - 180) for each in range(AZIMUTHS)]
        weight = [math.exp(-((each / 15) ** 2) / 2) for each in apart]
        found = azimuth[row].log_softmax(-1).tolist()
        bells.append(-sum(w * f for w, f in zip(weight, found, strict=True)) / sum(weight))
    expected = sum(smoothed(kind[row], right) for row, right in enumerate((0, 2, 1))) / 3
    expected += (smoothed(colour[0], 1) + smoothed(colour[2], 0)) / 2
    expected += (smoothed(part[0, 1], 1) + smoothed(part[2, 0], 0) + smoothed(part[2, 1], 0)) / 3
    assert training.loss(opinion, labels).item() == pytest.approx(expected + 0.5 * sum(bells) / 2, rel=1e-5)
    untold = replace(labels, part=torch.full((3, 2), NOT_TOLD), azimuth=torch.full((3,), math.nan))
    expected = sum(smoothed(kind[row], right) for row, right in enumerate((0, 2, 1))) / 3
    expected += (smoothed(colour[0], 1) + smoothed(colour[2], 0)) / 2
    assert training.loss(opinion, untold).item() == pytest.approx(expected, rel=1e-5)


def test_accuracies_by_hand() -> None:
    """Of OPINION: none of them, tree, car; red, blue, red; from 0, 75 and 345 degrees."""
    told = Labels(
        kind=torch.tensor([1, 1, 0]),
        colour=torch.tensor([1, 1, 1]),
        part=torch.tensor([[NOT_TOLD, 0], [1, 0], [NOT_TOLD, NOT_TOLD]]),
        azimuth=torch.tensor([math.nan, 106.0, 14.9]),
    )
    expected = {"kind": 2 / 3, "colour": 2 / 3, "part": 2 / 3, "azimuth": 1 / 2}
    assert training.accuracy(OPINION, told) == pytest.approx(expected)
    bare = replace(told, part=torch.full((3, 2), NOT_TOLD), azimuth=torch.full((3,), math.nan))
    assert training.accuracy(OPINION, bare) == pytest.approx({"kind": 2 / 3, "colour": 2 / 3}), "no share of nothing"


def test_a_step_breaks_some_and_tells_nothing_else_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first BROKEN_SHARE are labelled as none of the kinds, without colour, part or side."""
    seen: list[Labels] = []
    before = training.loss

    def spy(opinion: Opinion, labels: Labels) -> Tensor:
        seen.append(labels)
        return before(opinion, labels)

    monkeypatch.setattr(training, "loss", spy)
    count = 25
    labels = Labels(
        torch.arange(count) % 3, torch.arange(count) % 5, torch.zeros(count, 2, dtype=torch.int64), torch.zeros(count)
    )
    classifier = seeded().train()
    optimiser = torch.optim.SGD(classifier.parameters(), 0.0)
    training.train_step(classifier, optimiser, noise(count), labels, generator(0, 0, 0, "wear"))
    (told,) = seen
    broken = int(training.BROKEN_SHARE * count)
    assert broken == 3 and told.kind.tolist() == [3] * broken + labels.kind[broken:].tolist()
    assert told.colour.tolist() == [NOT_TOLD] * broken + labels.colour[broken:].tolist()
    assert (told.part[:broken] == NOT_TOLD).all() and (told.part[broken:] == 0).all()
    assert told.azimuth[:broken].isnan().all() and (told.azimuth[broken:] == 0).all()
    assert labels.kind[0] == 0, "what came in stays as it was"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Fresh objects: every kind in two colours, seen twice, from a seed that no training uses."""
    folder = tmp_path_factory.mktemp("world") / "fresh"
    return Dataset.open(build_dataset(folder, 2 * len(KINDS), Recipe(2, 32, held_out=True, pairs=False), 0))


def test_labels_are_the_captions(world: Dataset) -> None:
    kinds, colours, words = list(KINDS), list(COLOURS), part_words()
    rows = np.arange(len(world))
    found = train_judge.labels(world, rows, torch.device("cpu"))
    for row in rows:
        caption = world.captions[row // 2]
        assert kinds[found.kind[row]] == caption.kind and colours[found.colour[row]] == caption.colour
        parts = {(words[i], colours[each]) for i, each in enumerate(found.part[row].tolist()) if each != NOT_TOLD}
        assert parts == set(caption.parts)
        azimuth = found.azimuth[row].item()
        assert azimuth == world.camera[row, 0] if KINDS[kinds[found.kind[row]]].front else math.isnan(azimuth)
    assert found.kind.dtype == found.colour.dtype == found.part.dtype == torch.int64
    assert (found.part != NOT_TOLD).any() and found.azimuth.isnan().any() and not found.azimuth.isnan().all()


def test_training_lowers_the_loss(world: Dataset) -> None:
    """A few steps on the same pictures already teach it some of what they show."""
    classifier, rows = seeded(len(KINDS), len(COLOURS), len(part_words())), np.arange(0, len(world), 4)
    x, told = pictures(world.images[rows]), train_judge.labels(world, rows, torch.device("cpu"))
    judge = Judge(classifier, tuple(KINDS), tuple(COLOURS), part_words(), {})
    optimiser = torch.optim.AdamW(classifier.parameters(), 3e-3)
    before = training.loss(judge.look(x), told).item()
    steps = [generator(0, 0, step, "wear") for step in range(25)]
    losses = [training.train_step(classifier, optimiser, x, told, each) for each in steps]
    chance = math.log(len(KINDS) + 1) + 2 * math.log(len(COLOURS)) + 0.5 * math.log(AZIMUTHS)
    assert losses[0] == pytest.approx(chance, abs=0.5)
    assert training.loss(judge.look(x), told).item() < 0.85 * before
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


# The verb


def settings(*overrides: str) -> list[str]:
    return ["train.steps=2", "train.batch=4", "device=cpu", *overrides]


def test_the_verb_writes_a_judge(world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Recipe] = []

    def dataset(folder: Path, objects: int, recipe: Recipe, workers: int) -> Dataset:
        asked.append(recipe)
        return world

    monkeypatch.setattr(train_judge, "dataset", dataset)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train_judge", settings(f"folder={tmp_path}"))
        prior = compose("train_prior")
    train_judge.run(cfg)
    judge = network.load(tmp_path / "judge.safetensors")
    assert (judge.kinds, judge.colours, judge.parts) == (tuple(KINDS), tuple(COLOURS), part_words())
    assert judge.card["steps"] == 2 and judge.card["objects"] == cfg.data.objects
    for how in ("clean", "worn"):
        assert judge.card[how].keys() == {"kind", "colour", "part", "azimuth"}
        assert all(0 <= share <= 1 for share in judge.card[how].values())
    seeds = {recipe.seed for recipe in asked} | {prior.data.seed, prior.data.seed + 1000}
    assert len(seeds) == 4, "nobody's objects are another's"
    assert all(recipe.held_out and not recipe.pairs and recipe.light_variation > 1 for recipe in asked)


@pytest.mark.parametrize("override", ["train.steps=0", "train.steps=2.5", "train.batch=0", "train.batch=many"])
def test_the_verb_refuses(tmp_path: Path, override: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train_judge", settings(f"folder={tmp_path / 'made'}", override))
    with pytest.raises(UserError, match=f"{override}: expected a whole number, at least 1"):
        train_judge.run(cfg)
    assert list(tmp_path.iterdir()) == []


# What is shipped

CLEAN, WORN = 0.9, 0.8
"""What it must name right of fresh objects, as they are and worn."""
PART, AZIMUTH = 0.75, 0.75
"""The same for the parts' colours and the azimuth, of clean ones: parts may be hidden, and some sides look alike."""
BROKEN = 0.8
"""Of broken pictures, which must be none of the kinds."""


def test_the_shipped_judge(world: Dataset) -> None:
    path = weights_dir() / "judge.safetensors"
    assert path.stat().st_size <= 4 * 2**20
    judge = network.load()
    assert (judge.kinds, judge.colours, judge.parts) == (tuple(KINDS), tuple(COLOURS), part_words())
    assert len(judge.kinds) == 32 and len(judge.colours) == 12
    rows = np.arange(len(world))
    x, told = pictures(world.images[rows]), train_judge.labels(world, rows, torch.device("cpu"))
    named = training.accuracy(judge.look(x), told)
    worn = training.accuracy(judge.look(training.wear(x, generator(2, 0, 0, "wear"))), told)
    assert min(named["kind"], named["colour"]) >= CLEAN and named["part"] >= PART, named
    assert named["azimuth"] >= AZIMUTH, named
    assert min(worn["kind"], worn["colour"]) >= WORN, worn
    pieces = judge.look(training.broken(x, generator(1, 0, 0, "broken"))).kind.argmax(-1)
    assert (pieces == len(KINDS)).float().mean() >= BROKEN
