"""The judge: its network, file and scores, and the weights that are shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from text23d.contracts import Head, Label
from text23d.engine.judge_training import labelled
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.judge import network
from text23d.judge.network import WIDTH, Classifier, Judge, Opinion
from text23d.judge.training import accuracy
from text23d.paths import weights_dir
from text23d.rng import generator
from text23d.worlds.dataset import Recipe, open_or_build
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.world import Objects

SOME_KINDS, SOME_PARTS = ("car", "tree", "mug"), ("roof", "wheels")
SOME_COLOURS = ("blue", "red", "white", "black", "green")
BINS = 24


def heads(kinds: tuple[str, ...], colours: tuple[str, ...], parts: tuple[str, ...]) -> tuple[Head, ...]:
    return (
        Head("kind", "global", kinds),
        Head("colour", "located", colours),
        Head("part", "located", colours, parts),
        Head("azimuth", "circular", tuple(f"{15 * index}" for index in range(BINS))),
    )


HEADS = heads(SOME_KINDS, SOME_COLOURS, SOME_PARTS)
NAMES = ("kind", "colour", "part", "azimuth")


def seeded(heads: tuple[Head, ...] = HEADS) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier(heads, 4, (64, 64)).eval()


def all_of(opinion: Opinion) -> dict[str, Tensor]:
    return {**opinion.logits, "features": opinion.features}


def noise(count: int) -> Tensor:
    return torch.randn(count, 4, 64, 64, generator=generator(0, 0, 0, "test"))


# The network and its file


def test_heads_and_independent_rows() -> None:
    classifier, x = seeded(), noise(3)
    with torch.no_grad():
        seen, alone = all_of(classifier(x)), all_of(classifier(x[1:2]))
    shapes = {name: tuple(each.shape) for name, each in seen.items()}
    assert shapes == {
        "kind": (3, 4),  # one kind more: none of them
        "colour": (3, 5),
        "part": (3, 2, 5),
        "azimuth": (3, BINS),
        "features": (3, WIDTH),
    }
    for name, each in seen.items():
        torch.testing.assert_close(alone[name], each[1:2], rtol=1e-4, atol=1e-5)
        assert torch.pdist(each.flatten(1)).min() > 1e-4


def test_colours_are_read_where_their_places_are() -> None:
    """A second implementation, place by place: the thing's own map first, then one for each word of a part."""
    classifier, x = seeded(), noise(1)
    with torch.no_grad():
        seen, h = classifier(x), x
        for stage in list(classifier.stages)[:-1]:
            h = stage(h)
        h, named = torch.nn.functional.silu(h), cast(nn.Module, classifier.colour)
        maps, found = classifier.place(h)[0].flatten(1).exp(), classifier.look(h)[0].flatten(1)
        for index, logits in enumerate([seen["colour"][0], *seen["part"][0]]):
            mean = sum(w * found[:, at] for at, w in enumerate(maps[index])) / maps[index].sum()
            torch.testing.assert_close(logits, named(mean), rtol=1e-4, atol=1e-5)
    assert (maps / maps.sum(1, keepdim=True)).std(1).min() > 1e-4, "or every place counts the same"


def test_located_heads_share_what_tells_their_classes_apart_and_no_more() -> None:
    """Each has places of its own; those of the same classes share a classifier, though another stands between them."""
    mixed = (
        Head("colour", "located", ("blue", "red")),
        Head("material", "located", ("wood", "steel", "glass"), ("roof", "wheels", "legs")),
        Head("part", "located", ("blue", "red"), ("roof",)),
    )
    classifier = seeded(mixed)
    shapes = {name: tuple(each.shape) for name, each in classifier(noise(2)).logits.items()}
    assert shapes == {"colour": (2, 2), "material": (2, 3, 3), "part": (2, 1, 2)}
    assert classifier.place.out_channels == 5 and not hasattr(classifier, "part")
    before = classifier(noise(2))
    with torch.no_grad():
        classifier.material.bias.add_(1.0)  # type: ignore[operator, union-attr]
    after = classifier(noise(2))
    assert torch.equal(before["colour"], after["colour"]) and torch.equal(before["part"], after["part"])
    torch.testing.assert_close(after["material"], before["material"] + 1)


def test_a_world_may_have_nothing_to_be_found_somewhere() -> None:
    seen = seeded((Head("kind", "global", ("car", "tree")),))(noise(2))
    assert list(seen.logits) == ["kind"] and seen["kind"].shape == (2, 3)


def test_looking_in_pieces_is_looking() -> None:
    """More pictures than one piece holds, in their order, and without gradients."""
    x = noise(70)
    seen = all_of(Judge(seeded()).look(x))
    with torch.no_grad():
        last = all_of(seeded()(x[64:]))
    for name, each in seen.items():
        torch.testing.assert_close(each[64:], last[name], rtol=1e-4, atol=1e-5)
        assert len(each) == 70 and not each.requires_grad


def test_a_judge_comes_back_rounded_to_float16(tmp_path: Path) -> None:
    judge = Judge(seeded(), {"clean": {"kind": 0.5}})
    network.save(tmp_path / "judge.safetensors", judge)
    back = network.load(tmp_path / "judge.safetensors")
    assert tuple(back.heads.values()) == HEADS and back.card == {"clean": {"kind": 0.5}}
    rounded = seeded().requires_grad_(False)
    for parameter in rounded.parameters():
        parameter.copy_(parameter.half().float())
    for name, each in all_of(rounded(noise(2))).items():
        torch.testing.assert_close(all_of(back.network(noise(2)))[name], each)
    assert not back.network.training and not any(p.requires_grad for p in back.network.parameters())
    network.save(tmp_path / "again.safetensors", back)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "judge.safetensors").read_bytes()


def test_a_file_of_the_earlier_format_says_the_same(tmp_path: Path) -> None:
    judge = Judge(seeded(), {"clean": {"kind": 0.5}, "corrupted": {"kind": 0.25}})
    network.save(tmp_path / "now.safetensors", judge)
    tensors, _ = load_tensors(tmp_path / "now.safetensors", "judge")
    classes = {"kinds": SOME_KINDS, "colours": SOME_COLOURS, "parts": SOME_PARTS}
    card = {"clean": {"kind": 0.5}, "worn": {"kind": 0.25}}
    facts = {"format": network.EARLIER, **classes, "card": card}
    save_tensors(tmp_path / "then.safetensors", tensors, "judge", facts)
    now, then = network.load(tmp_path / "now.safetensors"), network.load(tmp_path / "then.safetensors")
    assert now.heads == then.heads and now.card == then.card
    assert torch.equal(now.look(noise(2))["part"], then.look(noise(2))["part"])


def test_bad_weights_are_explained_in_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    network.save(good, Judge(seeded()))
    tensors, facts = load_tensors(good, "judge")
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:-1])
    save_tensors(tmp_path / "older.safetensors", tensors, "judge", {**facts, "format": "text23d-judge-1"})
    save_tensors(tmp_path / "foreign.safetensors", tensors, "prior", facts)
    del tensors["kind.bias"]
    save_tensors(tmp_path / "partial.safetensors", tensors, "judge", facts)
    for name, problem in (
        ("missing", "no file"),
        ("cut", "cut short"),
        ("older", r"not a judge \(text23d-judge-3 expected\)"),
        ("foreign", "is of the kind prior: expected one of the kind judge"),
        ("partial", "does not fit the network"),
    ):
        with pytest.raises(UserError, match=problem) as raised:
            network.load(tmp_path / f"{name}.safetensors")
        assert f"{name}.safetensors" in str(raised.value) and "\n" not in str(raised.value)


HEAD = {"name": "kind", "how": "global", "classes": ["car"]}
NONSENSE: dict[str, Any] = {
    "no heads": {"heads": None},
    "heads of another type": {"heads": "kind"},
    "a head without a name": {"heads": [{**HEAD, "name": None}]},
    "a head of another kind": {"heads": [{**HEAD, "how": "sideways"}]},
    "a head without classes": {"heads": [{**HEAD, "classes": []}]},
    "two heads of one name": {"heads": [HEAD, HEAD]},
    "a head with the name of something else": {"heads": [{**HEAD, "name": "forward"}]},
    "a head with a point": {"heads": [{**HEAD, "name": "a.b"}]},
    "no channels": {"channels": 0},
    "far too many channels": {"channels": 10**12},
    "a shape of text": {"shape": "64"},
    "four dimensions": {"shape": [64, 64, 64, 64]},
    "a huge shape": {"shape": [2**31 - 1, 2**31 - 1]},
    "no card": {"card": None},
    "a missing key": {"card": ...},
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_in_the_file_is_explained_in_one_line(tmp_path: Path, what: str) -> None:
    network.save(tmp_path / "good.safetensors", Judge(seeded()))
    tensors, facts = load_tensors(tmp_path / "good.safetensors", "judge")
    facts = {name: value for name, value in {**facts, **NONSENSE[what]}.items() if value is not ...}
    save_tensors(tmp_path / "bad.safetensors", tensors, "judge", facts)
    with pytest.raises(UserError, match=r"bad\.safetensors") as raised:
        network.load(tmp_path / "bad.safetensors")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


# What it says of pictures


class Says(nn.Module):
    """A classifier whose opinion is written by hand."""

    def __init__(self, opinion: Opinion) -> None:
        super().__init__()
        self.opinion, self.heads = opinion, heads(("car", "tree"), ("blue", "red"), SOME_PARTS)

    def forward(self, x: Tensor) -> Opinion:
        return self.opinion


def log(*odds: list[float]) -> Tensor:
    return torch.tensor(odds).log()


# Three pictures, of cars, trees or nothing known; blue or red; the roof's and the wheels' colours; seen from the front.
OPINION = Opinion(
    {
        "kind": log([1, 3, 4], [1, 7, 2], [8, 1, 1]),
        "colour": log([1, 3], [3, 1], [1, 4]),
        "part": torch.stack([log([1, 1], [1, 3], [4, 1]), log([9, 1], [1, 9], [1, 9])], 1),
        "azimuth": torch.nn.functional.one_hot(torch.tensor([0, 5, 23]), BINS).float(),
    },
    features=torch.zeros(3, WIDTH),
)
JUDGE = Judge(cast(Classifier, Says(OPINION)))


def asked(kind: str, colour: str | None = None, *parts: tuple[str, str]) -> list[Label]:
    told = [Label("colour", colour)] if colour else []
    return [Label("kind", kind), *told, *(Label("part", each, word) for word, each in parts)]


def test_score_by_hand() -> None:
    """One of three is a tree: the first is more likely nothing known."""
    assert JUDGE.score(noise(3), asked("tree", "blue")) == pytest.approx(
        {
            "kind_probability": (3 / 8 + 7 / 10 + 1 / 10) / 3,
            "kind_accuracy": 1 / 3,
            "colour_probability": (1 / 4 + 3 / 4 + 1 / 5) / 3,
            "colour_accuracy": 1 / 3,
        }
    )
    assert JUDGE.score(noise(3), asked("car")) == pytest.approx(
        {"kind_probability": (1 / 8 + 1 / 10 + 8 / 10) / 3, "kind_accuracy": 1 / 3}
    )


def test_parts_are_scored_together_by_hand() -> None:
    roof = {"part_probability": (1 / 2 + 3 / 4 + 1 / 5) / 3, "part_accuracy": 1 / 3}
    one = JUDGE.score(noise(3), asked("car", "red", ("roof", "red")))
    assert {name: one[name] for name in roof} == pytest.approx(roof)
    both = JUDGE.score(noise(3), asked("car", "red", ("wheels", "blue"), ("roof", "red")))
    wheels = {"part_probability": (9 / 10 + 1 / 10 + 1 / 10) / 3, "part_accuracy": 1 / 3}
    expected = {name: (roof[name] + wheels[name]) / 2 for name in roof}
    assert {name: both[name] for name in roof} == pytest.approx(expected)
    assert both["kind_accuracy"] == one["kind_accuracy"] and len(both) == 6


def test_likelihood_by_hand() -> None:
    """A product over what was asked and nothing else."""
    for labels, expected in (
        (asked("car"), [1 / 8, 1 / 10, 8 / 10]),
        (asked("tree", "red"), [3 / 8 * 3 / 4, 7 / 10 / 4, 1 / 10 * 4 / 5]),
        (asked("car", None, ("roof", "blue")), [1 / 8 / 2, 1 / 10 / 4, 8 / 10 * 4 / 5]),
        (asked("car", "blue", ("roof", "blue"), ("wheels", "red")), [1 / 640, 27 / 1600, 0.8 / 5 * 0.8 * 0.9]),
    ):
        found = JUDGE.log_likelihood(OPINION, labels).exp()
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-6)


def test_what_it_knows() -> None:
    assert all(JUDGE.knows(label) for label in asked("tree", "red", ("wheels", "blue")))
    for label in (
        Label("kind", "mug"),
        Label("size", "big"),
        Label("part", "red"),
        Label("part", "red", "beak"),
        Label("kind", "car", "roof"),
    ):
        assert not JUDGE.knows(label)


def test_azimuths_in_degrees() -> None:
    assert JUDGE.angles(OPINION, "azimuth").tolist() == [0.0, 75.0, 345.0]


# What is shipped

CLEAN, CORRUPTED = 0.9, 0.8
"""What it must name right of fresh objects, as they are and corrupted."""
PART, AZIMUTH = 0.75, 0.75
"""The same for the parts' colours and the azimuth, of clean ones: parts may be hidden, and some sides look alike."""
SCRAMBLED = 0.8
"""Of scrambled pictures, which must be none of the kinds."""


def test_the_shipped_judge(tmp_path: Path) -> None:
    path, world = weights_dir() / "judge.safetensors", Objects().judged()
    assert path.stat().st_size <= 4 * 2**20
    judge = network.load()
    assert tuple(judge.heads.values()) == world.heads and judge.network.shape == world.shape
    assert len(world.heads[0].classes) == len(KINDS) == 32 and len(COLOURS) == 12
    data = open_or_build(tmp_path / "fresh", Recipe(world, 2 * len(KINDS), 2, 32))
    x, told = labelled(data, np.arange(len(data)), torch.device("cpu"))
    named = accuracy(world.heads, judge.look(x), told)
    corrupted = accuracy(world.heads, judge.look(world.corrupt(x, generator(2, 0, 0, "wear"))), told)
    assert min(named["kind"], named["colour"]) >= CLEAN and named["part"] >= PART, named
    assert named["azimuth"] >= AZIMUTH, named
    assert min(corrupted["kind"], corrupted["colour"]) >= CORRUPTED, corrupted
    pieces = judge.look(world.scramble(x, generator(1, 0, 0, "broken")))["kind"].argmax(-1)
    assert (pieces == len(KINDS)).float().mean() >= SCRAMBLED
