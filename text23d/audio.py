"""Sound space, in which priors of sounds work, and the sound files that a person brings or takes away.

x [..., BINS, F]: the coefficients (`text23d.lapped`) of a wave in [-1, 1] at RATE samples a second. Sample t of a sound
that does not wrap is seen by frames t // BINS and t // BINS + 1, so that such a sound has a frame more.
"""

from __future__ import annotations

import math
import os
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from text23d import lapped
from text23d.errors import UserError
from text23d.files import atomic
from text23d.paths import given_file

RATE = 8000
BINS = 64
LONGEST = 3600.0
"""Seconds of the longest file that is read."""


def frames(seconds: float, wrap: bool) -> int:
    """F of a sound of so many seconds, to the nearest BINS samples."""
    return round(seconds * RATE / BINS) + (not wrap)


def to_wave(x: Tensor, wrap: bool) -> Tensor:
    """Coefficients [..., BINS, F] -> samples [..., F BINS] of a sound that wraps, or [..., (F - 1) BINS]."""
    return lapped.inverse_ring(x) if wrap else lapped.inverse(x)[..., BINS:-BINS]


def from_wave(wave: Tensor, wrap: bool) -> Tensor:
    """The inverse of `to_wave`, for a multiple of BINS samples; before and after a sound that does not wrap is
    silence."""
    return lapped.forward_ring(wave, BINS) if wrap else lapped.forward(pad(wave, (BINS, BINS)), BINS)


def read_audio(path: str | os.PathLike[str], setting: str) -> Tensor:
    """The sound in a file, [samples] float32 at RATE, its channels averaged: WAV, FLAC, OGG, MP3 and whatever else
    libsndfile reads, of any rate and any width of samples. `setting` is what the person set to `path`.

    Raises UserError where the file is missing, no sound, empty, longer than LONGEST, or holds what is no number.
    """
    import soundfile

    given, path = f"{setting}={path}", given_file(path, setting, "a sound (WAV, FLAC, OGG or MP3)")
    try:
        with soundfile.SoundFile(path) as file:
            rate, length = file.samplerate, file.frames
            if length > LONGEST * rate:
                raise UserError(f"{given}: it lasts {length / rate:.0f} s; expected at most {LONGEST:.0f}; cut it")
            samples = file.read(dtype="float64", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError, TypeError) as error:
        raise UserError(f"{given}: cannot be read as a sound; expected a whole WAV, FLAC, OGG or MP3 file") from error
    if not len(samples):
        raise UserError(f"{given}: it holds no sample; expected a sound")
    wave = resampled(samples.mean(1), rate)
    if not np.isfinite(wave).all():
        raise UserError(f"{given}: some of its samples are no numbers; expected samples from -1 to 1; export it again")
    return torch.from_numpy(wave.astype(np.float32))


def resampled(wave: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """Samples [T] at `rate` -> those at RATE: band-limited, without delay."""
    from scipy.signal import resample_poly

    ratio = Fraction(RATE, rate)
    changed: NDArray[np.float64] = resample_poly(wave, ratio.numerator, ratio.denominator)
    return wave if ratio == 1 else changed


def write_wav(path: str | os.PathLike[str], wave: Tensor) -> float:
    """Write samples [T] at RATE as a WAV of 16 bits; a wave beyond [-1, 1] is made quieter as a whole. Returns by what
    it was multiplied. Raises UserError if it cannot be written."""
    import soundfile

    samples = wave.detach().cpu().double().numpy()
    gain = 1.0 / max(1.0, float(np.abs(samples).max(initial=0.0)))
    levels = np.round(samples * (gain * 32767)).astype(np.int16)
    with atomic(path) as temporary:
        soundfile.write(temporary, levels, RATE, format="WAV", subtype="PCM_16")
    return gain


def seconds_of(wave: Tensor) -> float:
    """How long samples [..., T] last."""
    return wave.shape[-1] / RATE


def is_silent(wave: Tensor) -> bool:
    """Whether nothing of it would be heard in 16 bits."""
    return math.isclose(float(wave.abs().max()), 0.0, abs_tol=0.5 / 32767)
