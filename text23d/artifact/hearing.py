"""What can be heard in a sound by arithmetic alone, by nothing that learned: onsets, tempo, pitches and clicks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.floating]
Spectrum = NDArray[np.float64]
FRAME, HOP = 0.032, 0.004
"""Seconds of a frame of the onset curve, and from one to the next."""
APART = 0.09
"""Seconds from one onset to the next at the least."""
RISE, LEAST = 0.25, 1.0
"""An onset's rise at the least: as a share of the largest ones, and in itself, as a ratio's logarithm. The
beating of low chords rises by as much, and is heard as onsets, too."""
QUIETEST = 0.003
"""The magnitude, of full scale, under which nothing is told apart."""


def spectrogram(wave: Wave, frame: int, hop: int) -> Spectrum:
    """Magnitudes of Hann-windowed frames [1 + (T - frame) // hop, frame // 2 + 1] of samples [T]; those of a sine of
    amplitude A peak at A."""
    window = np.hanning(frame + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(wave, np.float64), frame)[::hop]
    return np.abs(np.fft.rfft(frames * window)) * (2 / window.sum())


def onset_curve(wave: Wave, rate: int) -> Spectrum:
    """How much frequencies rise at each HOP, as the logarithm of their power, each by its share of the power then,
    [frames]: log-spectral flux (Dixon 2006) of what is heard, whatever hiss there is beside it."""
    power = spectrogram(wave, round(FRAME * rate), round(HOP * rate)) ** 2
    loud, lag = np.log(QUIETEST**2 + power), max(1, round(0.5 * FRAME / HOP))
    share = power[lag:] / (power[lag:].sum(1, keepdims=True) + QUIETEST**2)
    return np.concatenate([np.zeros(lag), (np.maximum(loud[lag:] - loud[:-lag], 0) * share).sum(1)])


def onsets(wave: Wave, rate: int) -> Spectrum:
    """The times in seconds at which notes begin, rising; samples [T]."""
    curve = onset_curve(wave, rate)
    if len(curve) < 3:
        return np.zeros(0)
    reach = round(APART / HOP)
    padded = np.pad(curve, reach)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    is_peak = (curve >= around.max(1)) & (curve > around.mean(1) + max(LEAST, RISE * np.quantile(curve, 0.99)))
    times = np.asarray(np.flatnonzero(is_peak) * HOP + FRAME / 2, np.float64)
    found: Spectrum = times[np.diff(times, prepend=-np.inf) > APART / 2]  # of equal neighbours the first
    return found


def tempo(wave: Wave, rate: int) -> float:
    """Onsets a second, by the median time from one to the next; nan where there are fewer than three."""
    times = onsets(wave, rate)
    return float(1 / np.median(np.diff(times))) if len(times) >= 3 else float("nan")


def pitch(wave: Wave, rate: int, low: float = 100.0, high: float = 1200.0) -> float:
    """The frequency in hertz of the strongest tone of samples [T] between low and high: the peak of the spectrum, with
    the parabola through its logarithm and its neighbours'."""
    size = 1 << int(np.ceil(np.log2(8 * len(wave))))
    magnitude = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), size))
    first, last = int(low * size / rate), int(high * size / rate)
    top = first + int(magnitude[first:last].argmax())
    left, middle, right = np.log(magnitude[top - 1 : top + 2] + 1e-12)
    return float((top + 0.5 * (left - right) / (left - 2 * middle + right)) * rate / size)


def high_band(wave: Wave, rate: int, hop: int, above: float = 0.6) -> Spectrum:
    """The mean square of what lies above this share of half of the rate, in blocks of `hop` samples [T // hop]: a click
    is heard there, where tones are not. At least that of 16 bits' rounding."""
    from scipy.signal import firwin, oaconvolve

    taps = firwin(63, above, pass_zero=False)
    high = oaconvolve(np.asarray(wave, np.float64), taps, mode="same")
    blocks: Spectrum = np.square(high[: len(high) // hop * hop]).reshape(-1, hop).mean(1)
    return np.maximum(blocks, 2.0**-30)


def cents(frequency: float, reference: float) -> float:
    """How far above the reference a frequency is, in cents: a quarter tone is 50."""
    return float(1200 * np.log2(frequency / reference))
