"""What is heard by arithmetic, against tones and clicks whose frequency and time are known."""

from __future__ import annotations

import numpy as np
import pytest

from text23d.artifact import hearing

RATE = 8000


def tone(frequency: float, seconds: float, phase: float = 0.3) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE + phase)


@pytest.mark.parametrize("frequency", [130.81, 261.63, 440.0, 987.77])
def test_the_pitch_of_a_tone(frequency: float) -> None:
    for seconds in (0.15, 0.5):
        wave = tone(frequency, seconds) + 0.4 * tone(2 * frequency, seconds, 1.0)
        assert abs(hearing.cents(hearing.pitch(wave, RATE), frequency)) < 5


def test_cents() -> None:
    assert hearing.cents(2, 1) == 1200 and hearing.cents(440 * 2 ** (-1 / 24), 440) == pytest.approx(-50)


def test_a_spectrogram_peaks_at_the_amplitude() -> None:
    shown = hearing.spectrogram(0.7 * tone(1000, 0.5), 256, 64)
    assert shown.shape == (1 + (4000 - 256) // 64, 129)
    assert (shown.argmax(1) == 32).all() and np.allclose(shown.max(1), 0.7, atol=0.01)


def test_onsets_are_where_notes_begin() -> None:
    times, wave = np.array([0.3, 0.55, 1.0, 1.21, 1.9]), np.zeros(int(2.5 * RATE))
    for time, frequency in zip(times, (300, 500, 400, 700, 300), strict=True):
        first = int(time * RATE)
        wave[first:] += tone(frequency, (len(wave) - first) / RATE) * np.exp(-6 * np.arange(len(wave) - first) / RATE)
    found = hearing.onsets(wave, RATE)
    assert len(found) == len(times) and np.abs(found - times).max() < 0.02


def test_the_tempo_is_that_of_the_clicks() -> None:
    rng, wave = np.random.default_rng(0), np.zeros(4 * RATE)
    for start in range(400, len(wave), 1250):  # 6.4 a second
        wave[start : start + 200] += rng.standard_normal(len(wave[start : start + 200])) * 0.3
    assert hearing.tempo(wave, RATE) == pytest.approx(6.4, rel=0.03)


def test_where_there_is_nothing_there_are_no_onsets() -> None:
    for wave in (np.zeros(RATE), np.zeros(300), np.full(RATE, 0.5)):
        assert len(hearing.onsets(wave, RATE)) == 0 and np.isnan(hearing.tempo(wave, RATE))
