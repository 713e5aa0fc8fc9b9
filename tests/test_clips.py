"""The world of clips: what moves how, what is said of it, and what is not understood."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from text23d.errors import UserError
from text23d.spaces import from_picture
from text23d.worlds.clips.caption import COLOURS, KINDS, Caption, numbered, phrases, words
from text23d.worlds.clips.motions import MOTIONS, REACH, SCALES
from text23d.worlds.clips.world import Clips, shots
from text23d.worlds.objects.colours import COLOURS as PAINTS

T = np.arange(48, dtype=np.float64)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(4))
def test_motions_are_what_they_are_called(seed: int) -> None:
    """Rates and ways in closed form, over much longer than a clip."""
    found = {name: motion.course(T, rng(seed)) for name, motion in MOTIONS.items()}
    for name, way in (("turning left", 1), ("turning right", -1)):
        step = way * np.diff(found[name].azimuth)
        assert np.allclose(step, step[0]) and 10 <= step[0] <= 18
    for name, way in (("moving left", -1), ("moving right", 1)):
        course = found[name]
        around, step = 2 * (1 + REACH * course.scale[0]), way * np.diff(course.x)
        assert 0.11 <= step.max() <= 0.19 and np.allclose(step % around, step.max())
        outside = np.abs(course.x[1:][step < 0]) + REACH * course.scale[0]
        assert (outside >= 1 - step.max()).all(), "it comes in where nobody sees it"
        assert abs(np.mean(course.azimuth) + 90 * way) <= 30, "its front is ahead"
    hop = found["hopping"].y
    falling = np.diff(hop, 2)
    assert np.isclose(falling, np.median(falling)).mean() > 0.6 and np.median(falling) < 0, "parabolas"
    assert -0.3 <= hop.min() < -0.15 and hop.max() > 0.05
    for name, way in (("coming closer", 1), ("going away", -1)):
        eight = MOTIONS[name].course(T[:8], rng(seed)).scale
        growth = way * np.diff(np.log(eight))
        assert np.allclose(growth, growth[0]) and 0.02 <= growth[0] <= 0.07
        assert SCALES[0] <= eight.min() and eight.max() <= SCALES[1] + 1e-9
    still = found["standing still"]
    assert all(np.ptp(each) == 0 for each in (still.azimuth, still.x, still.y, still.scale))


def test_a_course_is_seen_where_it_says() -> None:
    """The middle of what is covered, and its extent, against where the course has a thing of known size."""
    course = MOTIONS["moving right"].course(np.arange(8.0), rng(3))
    seen = shots(course, 10.0)
    origins, directions = seen.rays((64, 64))
    nearest = torch.linalg.cross(origins, directions).norm(dim=-1)  # of each ray to the middle of the thing
    covered = (nearest < 0.5).double()
    place = (torch.arange(64) + 0.5) / 32 - 1
    for frame in range(8):
        x, y = float(course.x[frame]), float(course.y[frame])
        if abs(x) < 0.6:
            total = covered[frame].sum()
            assert abs((covered[frame].sum(0) * place).sum() / total - x) < 0.02
            assert abs((covered[frame].sum(1) * -place).sum() / total - y) < 0.02
            radius = (total / 64**2 * 4 / np.pi).sqrt()
            tangent = np.tan(np.arcsin(0.5 / 3)) / np.tan(np.deg2rad(20))
            assert abs(radius - course.scale[frame] * tangent) < 0.02


def test_clips_show_what_their_captions_say() -> None:
    """Colours by the mean of what is covered; the direction of a motion by its middle."""
    world, place = Clips(), (torch.arange(32) + 0.5) / 16 - 1
    for index in range(0, 512, 37):
        made = world.example(5, index, 1)
        x, views = world.decode(made.arrays)
        assert x.shape == (1, 4, 8, 32, 32) and views.features().shape == (1, 0)
        premultiplied, alpha = from_picture(x[0].transpose(0, 1))
        mean = premultiplied.sum((0, 2, 3)) / alpha.sum().clamp(min=1)
        if alpha.sum() < 100:
            continue
        hues = [torch.tensor(PAINTS[colour]) for colour in COLOURS]
        near = [torch.nn.functional.cosine_similarity(mean - mean.mean(), hue - hue.mean(), 0) for hue in hues]
        assert near[COLOURS.index(made.caption.colour)] > max(near) - 0.25
        inside = alpha[:, 0].sum((1, 2)) > 20
        if made.caption.motion in ("moving left", "moving right") and inside.all():
            middles = (alpha[:, 0].sum(1) * place).sum(1) / alpha[:, 0].sum((1, 2))
            assert ((middles[-1] - middles[0]) > 0) == (made.caption.motion == "moving right")


def test_a_thing_goes_on_as_itself_and_each_prefix_of_a_set_is_balanced() -> None:
    world, captions = Clips(frames=2, size=8), {numbered(index) for index in range(512)}
    assert len(captions) == len(KINDS) * len(COLOURS) * len(MOTIONS) == 512
    assert world.example(3, 70, 1).caption == numbered(70)
    a, b = (world.example(3, 70, 2).arrays["images"] for _ in range(2))
    assert np.array_equal(a, b) and not np.array_equal(a[0], a[1])


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red car turning left", Caption("car", "red", "turning left")),
        ("A crimson automobile, spinning to the left!", Caption("car", "red", "turning left")),
        ("film of the blue duck that is jumping up and down", Caption("duck", "blue", "hopping")),
        ("emerald tree approaching", Caption("tree", "green", "coming closer")),
        ("a mug moving away", Caption("mug", None, "going away")),
        ("a mug moving right", Caption("mug", None, "moving right")),
        ("a pink house", Caption("house", "pink", None)),
    ],
)
def test_prompts_are_read(prompt: str, expected: Caption) -> None:
    assert Clips().read(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("", "prompt is empty"),
        ("a red cart turning left", r"does not know the word 'cart' \(did you mean car"),
        ("turning left", "names no thing"),
        ("a red blue car", "names red and blue: ask for one"),
        ("a car with wheels", "does not know the word 'with'"),
        ("a red car left", 'has it "left", which is no motion: choose one of turning left'),
        ("a red car turning left hopping", "which is no motion"),
    ],
)
def test_what_is_not_understood_is_told_in_one_line(prompt: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as raised:
        Clips().read(prompt)
    assert "\n" not in str(raised.value)


def test_every_way_of_saying_a_motion_means_it_alone() -> None:
    assert len(phrases()) == len({(said, motion) for said, motion in phrases().items()})
    for motion, it in MOTIONS.items():
        assert all(Clips().read(f"a car {said}").motion == motion for said in it.says)
    assert {word for said in phrases() for word in said.split()} <= set(words())


def test_judges_are_not_asked_whether_round_things_turn() -> None:
    world = Clips()
    assert [label.head for label in world.labels(Caption("tree", "red", "turning left"))] == ["kind", "colour"]
    assert [label.head for label in world.labels(Caption("car", "red", "turning left"))] == ["kind", "colour", "motion"]


def test_clips_are_corrupted_alike_in_all_their_frames_but_for_noise_and_scrambled_in_time_too() -> None:
    world = Clips()
    x, _ = world.decode(world.example(1, 7 * 64, 3).arrays)  # standing still
    assert torch.equal(x[:, :, 0], x[:, :, 5])
    worn = world.corrupt(x, torch.Generator().manual_seed(0))
    change = (worn[:, :, 0] - worn[:, :, 5]).square().mean((1, 2, 3)).sqrt()
    moved = (worn[:, :, 0] - x[:, :, 0]).square().mean((1, 2, 3)).sqrt()
    assert (change < 0.25).all() and (moved > change / 2**0.5).all() and len(set(moved.tolist())) == 3
    times = torch.arange(8.0)[:, None, None].expand(2, 4, 8, 32, 32)
    mixed = world.scramble(times, torch.Generator().manual_seed(0))
    assert sorted(mixed[0, 0, :, 0, 0].tolist()) == list(range(8)) and not torch.equal(mixed, times)
