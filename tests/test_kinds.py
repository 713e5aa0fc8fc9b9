"""Every kind of object: closed solids, seen from all around, in the prompt's colour, with the parts and the front it
says it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from text23d.worlds.objects import kinds
from text23d.worlds.objects.adjectives import STRETCH
from text23d.worlds.objects.caption import Caption
from text23d.worlds.objects.colours import COLOURS, COLOURS_TOO
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.parts import OBJECT_RADIUS, Mesh, Object, Rgb, normalise
from text23d.worlds.objects.render import Light, render
from text23d.worlds.objects.scene import make
from text23d.worlds.objects.sheet import ring
from text23d.worlds.objects.views import cameras_from

FLAT = Light(strength=0.0, sky=1.0, ground=1.0)  # under it a picture shows the albedo itself
PAINTS: tuple[Rgb, ...] = ((1.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 1.0, 0.0))
# Of each kind with a front: a part towards it, and a part farther back.
FRONTS = {
    "airplane": ("wings", "fin"),
    "bed": ("blanket", "pillow"),
    "bicycle": ("handlebar", "seat"),
    "bottle": ("label", "body"),
    "bus": ("headlamp", "tail lamp"),
    "car": ("headlamp", "tail lamp"),
    "castle": ("door", "walls"),
    "chair": ("seat", "back"),
    "dog": ("nose", "tail"),
    "duck": ("beak", "body"),
    "fish": ("eye", "tail"),
    "flower": ("centre", "stem"),
    "guitar": ("neck", "body"),
    "helicopter": ("cabin", "tail"),
    "house": ("door", "walls"),
    "lighthouse": ("door", "tower"),
    "robot": ("mouth", "body"),
    "snowman": ("nose", "body"),
    "sofa": ("seat", "back"),
    "train": ("smokebox", "cab"),
    "truck": ("headlamp", "tail lamp"),
    "windmill": ("blade", "roof"),
}


def built(kind: str, seed: int, colour: Rgb = COLOURS["turquoise"]) -> Object:
    """An object whose main albedo is exactly `colour`."""
    return normalise(Object(tuple(KINDS[kind].build(np.random.default_rng(seed), colour))))


def albedo(thing: Object, views: int = 4) -> np.ndarray:
    """What its opaque pixels show from around, without light: [N, 3] in [0, 1]."""
    pictures = render(thing, ring(views), FLAT, 32)
    return pictures[pictures[..., 3] == 255][:, :3] / 255.0


def share_of(colour: Rgb, pixels: np.ndarray, dark: float = 0.6, light: float = 1.3) -> float:
    """The share of pixels [N, 3] that are that colour or a shade of it."""
    shade = pixels @ np.asarray(colour) / np.dot(colour, colour)
    near = np.abs(pixels - shade[:, None] * colour).max(1) < 0.03
    return float((near & (shade > dark) & (shade < light)).mean())


# The registry


def test_every_file_is_a_kind_and_every_word_means_one_thing() -> None:
    folder = Path(kinds.__file__).parent
    assert sorted(KINDS) == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    also = [word for kind in KINDS.values() for word in kind.also]
    every = [*KINDS, *also, *COLOURS, *COLOURS_TOO, *STRETCH]
    assert len(every) == len(set(every)) and all(word.isalpha() and word.islower() for word in every)
    parts = {word for kind in KINDS.values() for word in kind.parts}
    assert parts.isdisjoint({*also, *COLOURS, *COLOURS_TOO, *STRETCH})
    for name, kind in KINDS.items():
        assert set(kind.part_also.values()) <= set(kind.parts), name
        assert set(kind.part_also).isdisjoint({*kind.parts, *every}), name
    assert {kind for kind, it in KINDS.items() if it.front} == {*FRONTS, "boat"}


# Shape


def is_closed(mesh: Mesh) -> bool:
    """Whether each edge belongs to two faces that run along it in opposite directions."""
    start, end = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).T
    there, back = np.sort(start * len(mesh.vertices) + end), np.sort(end * len(mesh.vertices) + start)
    return bool((np.diff(there) > 0).all() and (there == back).all())


@pytest.mark.parametrize("kind", KINDS)
def test_solids_are_closed_and_wound_outwards(kind: str) -> None:
    for seed in range(4):
        thing = built(kind, seed)
        for part in thing.parts:
            a, b, c = np.moveaxis(part.mesh.vertices[part.mesh.faces], 1, 0)
            assert is_closed(part.mesh) and (a * np.cross(b, c)).sum() > 0, (part.name, seed)
            assert min(part.colour) >= 0 and max(part.colour) <= 1, part.name
        everything = np.concatenate([part.mesh.vertices for part in thing.parts])
        assert np.isfinite(everything).all() and len(everything) < 4000, "few enough to render quickly"
        assert np.linalg.norm(everything, axis=1).max() == pytest.approx(OBJECT_RADIUS, abs=1e-12)
        np.testing.assert_allclose(everything.min(0), -everything.max(0), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_part_is_a_hair(kind: str) -> None:
    """The middle one of a part's extents along its principal axes, which is how wide a rod or a blade looks, is at
    least 1.25 pixels of a 64-pixel picture at distance 3 and 40 degrees."""
    pixel = 2 * 3 * np.tan(np.deg2rad(20)) / 64
    for seed in range(4):
        for part in built(kind, seed).parts:
            centred = part.mesh.vertices - part.mesh.vertices.mean(0)
            axes = np.linalg.svd(centred, full_matrices=False)[2]
            assert np.sort(np.ptp(centred @ axes.T, axis=0))[1] > 1.25 * pixel, (part.name, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_an_object_and_another_seed_another(kind: str) -> None:
    def extents(seed: int) -> np.ndarray:
        everything = np.concatenate([part.mesh.vertices for part in built(kind, seed).parts])
        return np.ptp(everything, axis=0)

    sizes = np.stack([extents(seed) for seed in range(8)])
    np.testing.assert_array_equal(sizes[5], extents(5))
    assert len(np.unique(sizes.round(6), axis=0)) == 8
    assert (sizes / sizes[:, :1]).std(0).max() > 0.02, "in proportions, too"


# Pictures


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_seen_whole_from_all_around(kind: str) -> None:
    views = [(azimuth, elevation, 3.0, 40.0) for azimuth in (10, 100, 190, 280) for elevation in (-15, 20, 60)]
    pictures = render(make(Caption(kind), np.random.default_rng(3)), cameras_from(np.array(views)), size=32)
    alpha = pictures[..., 3] / 255.0
    assert alpha.mean((1, 2)).min() > 0.05 and alpha.mean((1, 2)).max() < 0.75
    assert not alpha[:, [0, -1]].any() and not alpha[:, :, [0, -1]].any()
    assert (pictures[..., :3] <= pictures[..., 3:]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_the_colour_that_the_prompt_says(kind: str) -> None:
    """In every second colour: that albedo, or a shade of it, covers much of every object."""
    start = list(KINDS).index(kind) % 2
    shares = [share_of(rgb, albedo(built(kind, i, rgb))) for i, rgb in enumerate(list(COLOURS.values())[start::2])]
    assert min(shares) > 0.2 and np.mean(shares) > 0.3, np.round(shares, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_object_has_its_parts_visibly(kind: str) -> None:
    """Each word's parts exist in every style; painted in colours that nothing has, they show."""
    words = KINDS[kind].parts
    paint = {name: rgb for names, rgb in zip(words.values(), PAINTS, strict=False) for name in names}
    shown = []
    for seed in range(20):
        thing = built(kind, seed)
        present = {part.name for part in thing.parts}
        assert all(present & set(names) for names in words.values()), seed
        if seed < 4:
            parts = [replace(part, colour=paint.get(part.name, part.colour)) for part in thing.parts]
            pixels = albedo(Object(tuple(parts)))
            shown.append([share_of(rgb, pixels) for rgb in PAINTS[: len(words)]])
    assert 1 <= len(words) <= len(PAINTS)
    assert np.min(shown) > 0.015 and np.mean(shown, 0).min() > 0.025, dict(zip(words, np.mean(shown, 0), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_named_in_the_caption_is_coloured_and_nothing_else(kind: str) -> None:
    plain = make(Caption(kind, "turquoise"), np.random.default_rng(7))
    for word, names in KINDS[kind].parts.items():
        thing = make(Caption(kind, "turquoise", parts=((word, "purple"),)), np.random.default_rng(7))
        for before, after in zip(plain.parts, thing.parts, strict=True):
            np.testing.assert_array_equal(before.mesh.vertices, after.mesh.vertices)
            if before.name in names:
                np.testing.assert_allclose(after.colour, COLOURS["purple"], atol=0.08)
            else:
                assert after.colour == before.colour


# Fronts


@pytest.mark.parametrize("kind", FRONTS)
def test_the_front_faces_minus_y(kind: str) -> None:
    for seed in range(4):
        thing = built(kind, seed)
        ahead, behind = (
            np.concatenate([part.mesh.vertices[:, 1] for part in thing.parts if part.name == name]).mean()
            for name in FRONTS[kind]
        )
        assert ahead < behind - 0.05


def test_a_boat_is_pointed_in_front() -> None:
    for seed in range(6):
        hull = next(part.mesh.vertices for part in built("boat", seed).parts if part.name == "hull")
        bow, stern = (hull[np.isclose(hull[:, 1], end), 0] for end in (hull[:, 1].min(), hull[:, 1].max()))
        assert np.ptp(bow) < 0.2 * np.ptp(stern)


@pytest.mark.parametrize("kind", [*FRONTS, "boat"])
def test_front_and_back_look_different(kind: str) -> None:
    """Without light, which tells them apart anyway, and however the picture is mirrored."""
    differences = []
    for seed in range(2):
        front, back = render(built(kind, seed), ring(2, 10.0, 0.0), FLAT, 32) / 255.0
        covered = front[..., 3].sum() + back[..., 3].sum()
        differences.append(min(np.abs(front - each).sum() / covered for each in (back, back[:, ::-1])))
    assert np.mean(differences) > 0.04
