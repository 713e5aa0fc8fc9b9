"""The lapped transform against its definition, written out: exact inverse, orthogonality, what a tone looks like."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from text23d import lapped
from text23d.errors import UserError


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_is_the_sum_of_its_definition() -> None:
    bins, wave = 4, noise(5 * 4)
    found = lapped.forward(wave, bins)
    assert found.shape == (4, 4)
    for frame in range(4):
        for k in range(bins):
            total = 0.0
            for n in range(2 * bins):
                window = math.sin(math.pi * (n + 0.5) / (2 * bins))
                phase = math.pi / bins * (n + 0.5 + bins / 2) * (k + 0.5)
                total += math.sqrt(2 / bins) * window * wave[frame * bins + n].item() * math.cos(phase)
            assert found[k, frame].item() == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("bins", [1, 2, 16, 64])
def test_the_inverse_is_exact(bins: int) -> None:
    wave = noise(3, 12 * bins)
    torch.testing.assert_close(lapped.inverse_ring(lapped.forward_ring(wave, bins)), wave, atol=1e-10, rtol=0)
    back = lapped.inverse(lapped.forward(wave, bins))
    inner = slice(bins, -bins)
    torch.testing.assert_close(back[:, inner], wave[:, inner], atol=1e-10, rtol=0)


def test_of_a_ring_it_is_orthogonal_so_that_white_noise_stays_white() -> None:
    bins, length = 8, 40
    matrix = lapped.forward_ring(torch.eye(length, dtype=torch.float64), bins).flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(length, dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_inverse_is_the_transpose() -> None:
    wave, x = noise(6 * 8), noise(8, 5)
    assert (lapped.forward(wave, 8) * x).sum().item() == pytest.approx((wave * lapped.inverse(x)).sum().item())


def test_a_tone_is_a_line_of_steady_brightness_at_its_bin() -> None:
    bins, rate = 64, 8000
    t = torch.arange(40 * bins, dtype=torch.float64) / rate
    picture = lapped.picture(lapped.forward(0.5 * torch.sin(2 * math.pi * 1000 * t), bins)[None])
    assert picture.shape == (1, 4, bins, 39) and (picture[:, 3] == 1).all()
    inner = picture[0, 0, :, 2:-2]
    rows = inner.argmax(0)
    expected = bins - 1000 / (rate / 2 / bins)
    assert ((rows + 0.5 - expected).abs() <= 1).all(), "the lowest bin is the lowest row"
    peak = inner.amax(0)
    assert peak.max() - peak.min() < 0.25, "within 7.5 dB in all frames"
    assert lapped.picture(torch.zeros(1, 8, 5))[:, :3].max() == -1, "silence is black"


@pytest.mark.parametrize("length", [0, 8, 20])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(UserError, match="expected a multiple of 8, at least 16"):
        lapped.forward(torch.zeros(length), 8)
