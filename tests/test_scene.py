"""From captions to objects: what a data set holds and how often, and that objects are what their captions say."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import trimesh

from text23d.worlds.objects.adjectives import SMALL, SMALL_RADIUS, STRETCH
from text23d.worlds.objects.caption import MOST_PARTS, Caption
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.parts import OBJECT_RADIUS, Part
from text23d.worlds.objects.scene import ADJECTIVE_SHARE, HELD_OUT, PAIR_SHARE, PART_SHARE, TABLETOP, draw_caption, make

CARRIERS = [name for name, kind in KINDS.items() if kind.support]
EVERY = len(KINDS) * len(COLOURS)


def drawn(count: int, held_out: bool = False, pairs: bool = True, seed: int = 0) -> list[Caption]:
    return [draw_caption(i, np.random.default_rng([seed, i]), held_out, pairs) for i in range(count)]


def made(caption: Caption, seed: int = 0) -> tuple[Part, ...]:
    return make(caption, np.random.default_rng(seed)).parts


def points(parts: tuple[Part, ...]) -> np.ndarray:
    return np.concatenate([part.mesh.vertices for part in parts])


# What is drawn


def test_kinds_and_colours_are_balanced_in_any_prefix() -> None:
    captions = drawn(2 * EVERY, held_out=True)
    assert set(Counter((it.kind, it.colour) for it in captions).values()) == {2}
    assert set(Counter(it.kind for it in captions[: 5 * len(KINDS)]).values()) == {5}
    shown = Counter((it.kind, it.colour) for it in drawn(EVERY))
    expected = {pair: 1 for pair in product(KINDS, COLOURS)}
    for kind, colour in HELD_OUT:  # the next colour stands in
        del expected[kind, colour]
        expected[kind, list(COLOURS)[(list(COLOURS).index(colour) + 1) % len(COLOURS)]] = 2
    assert shown == expected


def test_held_out_pairs_are_drawn_only_when_asked_for() -> None:
    def pairs_in(captions: list[Caption]) -> set[tuple[str | None, str | None]]:
        things = [thing for it in captions for thing in (it, it.other) if thing is not None]
        return {(thing.kind, thing.colour) for thing in things}

    unasked, asked = drawn(4000, seed=1), drawn(EVERY, held_out=True)
    assert pairs_in(unasked).isdisjoint(HELD_OUT) and pairs_in(asked) >= set(HELD_OUT)
    assert pairs_in(unasked) == set(product(KINDS, COLOURS)) - set(HELD_OUT), "all others are"
    others = {(it.other.kind, it.other.colour) for it in drawn(4000, held_out=True, seed=1) if it.other is not None}
    assert others & set(HELD_OUT)


def test_what_else_is_said_and_how_often() -> None:
    captions, count = drawn(4000, seed=2), 4000
    alone = [it for it in captions if it.other is None]

    def is_share(found: int, of: int, share: float) -> None:
        assert found / of == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / of))

    is_share(count - len(alone), count, PAIR_SHARE)
    is_share(sum(it.adjective is not None for it in alone), len(alone), ADJECTIVE_SHARE)
    is_share(sum(bool(it.parts) for it in alone), len(alone), PART_SHARE)
    assert {it.adjective for it in alone} == {None, *STRETCH}
    for it in alone:
        words, colours = [word for word, _ in it.parts], {colour for _, colour in it.parts}
        assert len(set(words)) == len(words) <= MOST_PARTS and set(words) <= set(KINDS[it.kind or ""].parts)
        assert it.colour not in colours and colours <= set(COLOURS)
    pairs = [it for it in captions if it.other is not None]
    assert {it.relation for it in pairs} == {"on", "beside"}
    for it in pairs:
        assert it.other is not None and not (it.parts or it.adjective or it.other.parts or it.other.other)
        assert it.relation == "beside" or (it.kind in TABLETOP and it.other.kind in CARRIERS)


def test_no_pairs_when_none_are_wanted() -> None:
    assert all(it.other is None for it in drawn(1000, pairs=False))


def test_held_out_and_tabletop_name_what_exists() -> None:
    assert all(kind in KINDS and colour in COLOURS for kind, colour in HELD_OUT) and set(TABLETOP) <= set(KINDS)
    assert len({kind for kind, _ in HELD_OUT}) == len(HELD_OUT), "or the colour that stands in might be held out, too"
    for name in CARRIERS:
        assert KINDS[name].support in {part.name for part in made(Caption(name))}


# What is made


def test_every_drawn_caption_fills_the_ball() -> None:
    for index, caption in enumerate(drawn(150, seed=3)):
        radius = SMALL_RADIUS if caption.adjective == SMALL else OBJECT_RADIUS
        vertices = points(made(caption, index))
        assert np.linalg.norm(vertices, axis=1).max() == pytest.approx(radius, abs=1e-9)
        np.testing.assert_allclose(vertices.min(0), -vertices.max(0), atol=1e-9)


def test_the_same_seed_makes_the_same_object() -> None:
    caption = Caption("car", None, "tall", (("wheels", "red"),), "beside", Caption(None))
    for one, again in zip(made(caption, 5), made(caption, 5), strict=True):
        assert one.name == again.name and one.colour == again.colour
        np.testing.assert_array_equal(one.mesh.vertices, again.mesh.vertices)


@pytest.mark.parametrize("adjective", STRETCH)
def test_adjectives_stretch_by_what_they_say(adjective: str) -> None:
    """Proportions, which bringing the object to scene units leaves alone, change by the adjective's exactly."""
    for seed, kind in enumerate(list(KINDS)[list(STRETCH).index(adjective) % 3 :: 3]):
        plain, stretched = (np.ptp(points(made(Caption(kind, "red", a), seed)), axis=0) for a in (None, adjective))
        ratio = stretched / plain
        np.testing.assert_allclose(ratio / ratio[0], np.array(STRETCH[adjective]) / STRETCH[adjective][0], rtol=1e-9)


def test_small_is_smaller_alone_and_in_pairs() -> None:
    def high(caption: Caption, parts: int) -> tuple[float, float]:
        """Heights of the first thing and of the other, in which the first has that many parts."""
        everything = made(caption, 4)
        return tuple(float(np.ptp(points(each)[:, 2])) for each in (everything[:parts], everything[parts:]))  # type: ignore[return-value]

    tree, car = Caption("tree", "green"), Caption("car", "red")
    table, mug = Caption("table", "white"), Caption("mug", "blue")
    share = SMALL_RADIUS / OBJECT_RADIUS
    assert np.ptp(points(made(replace(car, adjective=SMALL)))) == pytest.approx(np.ptp(points(made(car))) * share)
    for first, relation, other in ((car, "beside", tree), (mug, "on", table)):
        count = len(made(first, 4))
        one, two = high(replace(first, relation=relation, other=other), count)
        small, same = high(replace(first, relation=relation, other=other, adjective=SMALL), count)
        assert small / same == pytest.approx(one / two * share)
    same, small = high(replace(car, relation="beside", other=replace(tree, adjective=SMALL)), len(made(car, 4)))
    one, two = high(replace(car, relation="beside", other=tree), len(made(car, 4)))
    assert small / same == pytest.approx(two / one * share)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_on_is_standing_on_what_carries(carrier: str) -> None:
    for first, seed in product(TABLETOP, range(2)):
        count = len(made(Caption(first), seed))
        parts = made(Caption(first, relation="on", other=Caption(carrier)), seed)
        thing, other = points(parts[:count]), parts[count:]
        support = next(part.mesh for part in other if part.name == KINDS[carrier].support)
        low, high = support.vertices.min(0), support.vertices.max(0)
        assert thing[:, 2].min() == pytest.approx(high[2], abs=1e-9)
        assert (thing.min(0)[:2] > low[:2]).all() and (thing.max(0)[:2] < high[:2]).all(), "not over the edge"
        foot = np.append((thing.min(0) + thing.max(0))[:2] / 2, high[2])
        solid = trimesh.Trimesh(support.vertices, support.faces, process=False)
        assert solid.contains([foot - (0, 0, 1e-3)]).all(), "there is something beneath it"
        assert np.ptp(thing, axis=0).max() > 0.25 * np.ptp(points(parts), axis=0).max(), "large enough to be seen"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_on_is_not_inside(carrier: str) -> None:
    """A chair's back or a sofa's cushion may be touched: a tenth of the thing's vertices at most."""
    for seed, first in enumerate(TABLETOP):
        count = len(made(Caption(first), seed))
        parts = made(Caption(first, relation="on", other=Caption(carrier)), seed)
        thing, inside = points(parts[:count]), np.zeros(len(points(parts[:count])), bool)
        for part in parts[count:]:
            low, high = part.mesh.vertices.min(0), part.mesh.vertices.max(0)
            near = ((thing > low + 1e-6) & (thing < high - 1e-6)).all(1)
            if near.any():
                solid = trimesh.Trimesh(part.mesh.vertices, part.mesh.faces, process=False)
                inside[near] |= solid.contains(thing[near])
        assert inside.mean() <= 0.1, first


def test_beside_is_apart_and_on_the_same_ground() -> None:
    for seed, first in enumerate(KINDS):
        other = list(KINDS)[(5 * seed + 3) % len(KINDS)]
        count = len(made(Caption(first), seed))
        parts = made(Caption(first, relation="beside", other=Caption(other)), seed)
        left, right = points(parts[:count]), points(parts[count:])
        assert left[:, 0].max() < right[:, 0].min(), "towards -X"
        assert right[:, 0].min() - left[:, 0].max() < 0.1, "and near"
        assert left[:, 2].min() == pytest.approx(right[:, 2].min(), abs=1e-9)
        assert 0.5 < np.linalg.norm(np.ptp(left, 0)) / np.linalg.norm(np.ptp(right, 0)) < 2


def test_both_things_of_a_pair_have_their_own_colours() -> None:
    caption = Caption(
        "mug", "red", None, (("handle", "yellow"),), "on", Caption("table", "blue", None, (("legs", "white"),))
    )
    parts = made(caption, 1)
    for name, colour in (("handle", "yellow"), ("top", "blue"), ("leg", "white")):
        for part in parts:
            if part.name == name:
                np.testing.assert_allclose(part.colour, COLOURS[colour], atol=0.08)


def test_what_is_not_said_may_be_anything_that_has_the_parts() -> None:
    def all_of(caption: Caption) -> set[tuple[str, ...]]:
        return {tuple(sorted({part.name for part in made(caption, seed)})) for seed in range(24)}

    assert len(all_of(Caption(None))) > 10
    for names in all_of(Caption(None, "red", None, (("wheels", "yellow"),))):
        assert "tyre" in names, "wheels are tyres of every kind that has them"
    for names in all_of(Caption("mug", None, None, (), "beside", Caption(None, None, None, (("legs", "red"),)))):
        assert "leg" in names
    reds = [np.mean([part.colour for part in made(Caption("mug"), seed)], axis=0)[0] for seed in range(20)]
    assert np.ptp(reds) > 0.3, "of any colour"
