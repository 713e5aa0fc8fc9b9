"""A lapped transform with an exact inverse: sound as coefficients over time and frequency (MDCT).

Princen and Bradley 1986 with a sine window: frame f looks at 2 N samples from f N on, and gives N coefficients,

    X[k, f] = sqrt(2 / N) sum_n w[n] x[f N + n] cos(pi / N (n + 1/2 + N / 2)(k + 1/2)),  w[n] = sin(pi (n + 1/2) / 2 N).

Bin k is of about (k + 1/2) / 2N of the sampling rate. Frames overlap by half, and yet there are as many coefficients as
samples; the transform of a ring is orthogonal, so that white noise stays white and nothing has an edge that clicks.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.spaces import to_picture


@cache
def basis(bins: int) -> Tensor:
    """What each bin listens to in a frame, [bins, 2 bins], float64; its rows are orthogonal and of length 1."""
    n, k = torch.arange(2 * bins, dtype=torch.float64), torch.arange(bins, dtype=torch.float64)
    window = torch.sin(math.pi * (n + 0.5) / (2 * bins))
    phase = math.pi / bins * (n + 0.5 + bins / 2) * (k[:, None] + 0.5)
    return math.sqrt(2 / bins) * window * torch.cos(phase)


def forward(wave: Tensor, bins: int) -> Tensor:
    """Samples [..., (F + 1) bins] -> coefficients [..., bins, F]. Raises UserError for other lengths."""
    length = wave.shape[-1]
    if length % bins or length < 2 * bins:
        raise UserError(f"a wave of {length} samples: expected a multiple of {bins}, at least {2 * bins}")
    frames = wave.unfold(-1, 2 * bins, bins)  # [..., F, 2 bins]
    return torch.einsum("kn,...fn->...kf", basis(bins).to(wave), frames)


def inverse(coefficients: Tensor) -> Tensor:
    """The transpose of `forward`: coefficients [..., bins, F] -> samples [..., (F + 1) bins], exact but for the first
    and the last `bins`, of which frames beyond the ends would know the other half."""
    bins = coefficients.shape[-2]
    first, second = torch.einsum("kn,...kf->...fn", basis(bins).to(coefficients), coefficients).chunk(2, -1)
    nothing = torch.zeros_like(first[..., :1, :])
    return (torch.cat([first, nothing], -2) + torch.cat([nothing, second], -2)).flatten(-2)


def forward_ring(wave: Tensor, bins: int) -> Tensor:
    """Samples [..., F bins] that go on from the start after their end -> coefficients [..., bins, F]. Orthogonal."""
    return forward(torch.cat([wave, wave[..., :bins]], -1), bins)


def inverse_ring(coefficients: Tensor) -> Tensor:
    """The inverse of `forward_ring`: coefficients [..., bins, F] -> samples [..., F bins]."""
    wave, bins = inverse(coefficients), coefficients.shape[-2]
    body, tail = wave[..., :-bins].clone(), wave[..., -bins:]
    body[..., :bins] += tail
    return body


def picture(coefficients: Tensor) -> Tensor:
    """A spectrogram of coefficients [B, bins, F], in picture space [B, 4, bins, F]: low bins at the bottom, black for
    60 dB below a tone of full scale, white for full scale.

    Coefficients of a steady tone come and go with its phase. What the frames beside say of the other phase makes up for
    it: the pseudo-spectrum sqrt(X_f^2 + (X_{f+1} - X_{f-1})^2) of Daudet and Sandler 2004.
    """
    bins = coefficients.shape[-2]
    beyond = torch.nn.functional.pad(coefficients, (1, 1))
    power = coefficients.square() + (beyond[..., 2:] - beyond[..., :-2]).square()
    decibels = 10 * torch.log10(power / (bins / 2) + 1e-12)
    grey = (1 + decibels / 60).clamp(0, 1).flip(-2)[..., None, :, :].expand(*power.shape[:-2], 3, *power.shape[-2:])
    return to_picture(grey, torch.ones_like(grey[..., :1, :, :]))
