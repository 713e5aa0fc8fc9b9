"""What judges are hardened with: pictures as a NeRF might show them, and their pieces in another order."""

from __future__ import annotations

import torch
from torch import Tensor

from text23d.rng import generator
from text23d.spaces import to_picture
from text23d.worlds.corruption import corrupt, scramble

EMPTY = torch.tensor([0.0, 0.0, 0.0, -1.0])[:, None, None].expand(4, 64, 64)


def test_corruption_leaves_an_empty_picture_empty_but_for_noise_and_background() -> None:
    corrupted = corrupt(EMPTY.repeat(64, 1, 1, 1), generator(0, 0, 0, "wear"))
    left = corrupted - EMPTY
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


def test_corruption_keeps_what_there_is_to_see() -> None:
    """Moved and scaled within its limits, a red disc stays a red disc of about its size and place."""
    x = disc().repeat(32, 1, 1, 1)
    corrupted = corrupt(x, generator(1, 0, 0, "wear"))
    coverage = (corrupted[:, 3] + 1) / 2
    area = coverage.sum((1, 2)) / ((x[0, 3] + 1) / 2).sum()
    assert area.min() > 0.8**2 and area.max() < 1.25**2
    at = torch.arange(64) - 31.5
    for centre in ((coverage * at).sum((1, 2)), (coverage * at[:, None]).sum((1, 2))):
        offset = centre / coverage.sum((1, 2))
        assert offset.abs().max() < 8 and offset.std() > 1, "moved by up to 0.12 of half the side"
    middle = corrupted[:, :3, 28:36, 28:36].mean((2, 3))
    assert (middle[:, 0] > middle[:, 1] + 0.8).all() and (middle[:, 0] > middle[:, 2] + 0.8).all()


def test_corruption_is_a_function_of_its_generator() -> None:
    x = disc().repeat(4, 1, 1, 1)
    once, again = (corrupt(x, generator(0, 0, 5, "wear")) for _ in range(2))
    assert torch.equal(once, again) and not torch.equal(once, corrupt(x, generator(0, 0, 6, "wear")))
    assert not torch.equal(once[0], once[1]), "every picture in a way of its own"


def tiles(x: Tensor, side: int) -> list[bytes]:
    """The square pieces of a picture [4, 64, 64], sorted."""
    cut = x.unfold(1, side, side).unfold(2, side, side).flatten(1, 2).transpose(0, 1)
    return sorted(each.contiguous().numpy().tobytes() for each in cut)


def test_a_scrambled_picture_has_the_same_pieces_elsewhere() -> None:
    x, sides = torch.randn(6, 4, 64, 64, generator=generator(0, 0, 0, "test")), set()
    for seed in range(8):
        found = scramble(x, generator(seed, 0, 0, "broken"))
        side = 16 if tiles(found[0], 16) == tiles(x[0], 16) else 8
        assert all(tiles(a, side) == tiles(b, side) for a, b in zip(found, x, strict=True))
        kept = (found == x).all(1).float().mean((1, 2))
        assert kept.max() < 0.4 and len({each.item() for each in kept}) > 1, "each in an order of its own"
        sides.add(side)
    assert sides == {8, 16}
