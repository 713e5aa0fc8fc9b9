"""Sound files of every kind are read right, and what is written is what was meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from text23d import audio
from text23d.errors import UserError


def tone(rate: int, seconds: float = 1.0, frequency: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def read(path: Path) -> np.ndarray:
    return audio.read_audio(path, "constraint.audio").numpy()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_samples_of_any_width(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(8000), 8000, subtype=subtype)
    coarse = {"PCM_U8": 0.01, "ULAW": 0.02}.get(subtype, 1e-4)
    assert np.abs(read(tmp_path / "a.wav") - tone(8000)).max() < coarse


@pytest.mark.parametrize("rate", [4000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.flac", tone(rate), rate)
    found = read(tmp_path / "a.flac")
    assert abs(len(found) - 8000) <= 2
    inner = slice(400, -400)  # filters need something on both sides
    assert np.abs(found[inner] - tone(8000)[: len(found)][inner]).max() < 0.01


def test_what_8000_hz_cannot_hold_is_filtered_out(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(48000, frequency=5000), 48000, subtype="FLOAT")
    assert np.abs(read(tmp_path / "a.wav")[400:-400]).max() < 0.01, "and is not heard as 3000 Hz"


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(8000), tone(8000, frequency=600)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 8000, subtype="FLOAT")
    np.testing.assert_allclose(read(tmp_path / "a.wav"), (left + right) / 2, atol=1e-6)


def test_other_kinds_of_file(tmp_path: Path) -> None:
    for name in ("a.ogg", "a.aiff", "a.mp3"):
        soundfile.write(tmp_path / name, tone(16000, 2.0), 16000)
        found = read(tmp_path / name)
        spectrum = np.abs(np.fft.rfft(found * np.hanning(len(found))))
        assert abs(np.fft.rfftfreq(len(found), 1 / 8000)[spectrum.argmax()] - 440) < 1, name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing.wav", "no such file; expected a sound"),
        ("text.wav", "cannot be read as a sound; expected a whole WAV"),
        ("half.flac", "cannot be read as a sound"),
        ("empty.wav", "it holds no sample"),
        ("nan.wav", "some of its samples are no numbers"),
        ("long.wav", "it lasts 4000 s; expected at most 3600; cut it"),
    ],
)
def test_what_is_no_sound_is_told_in_one_line(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "whole.flac", np.random.default_rng(0).uniform(-1, 1, 8000), 8000)
    (tmp_path / "half.flac").write_bytes((tmp_path / "whole.flac").read_bytes()[:30])
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "long.wav", np.zeros(4000 * 10), 10, subtype="PCM_U8")
    with pytest.raises(UserError, match=problem) as raised:
        read(tmp_path / name)
    assert str(raised.value).startswith(f"constraint.audio={tmp_path / name}") and "\n" not in str(raised.value)


@pytest.mark.parametrize("wrap", [False, True])
def test_a_wave_comes_back_from_its_coefficients(wrap: bool) -> None:
    wave = torch.randn(3, 50 * audio.BINS, generator=torch.Generator().manual_seed(0))
    x = audio.from_wave(wave, wrap)
    assert x.shape == (3, audio.BINS, audio.frames(50 * audio.BINS / audio.RATE, wrap))
    torch.testing.assert_close(audio.to_wave(x, wrap), wave, atol=1e-5, rtol=0)


def test_a_loop_has_no_seam() -> None:
    """Turned by some frames it is the same sound, from another moment on."""
    wave = torch.randn(40 * audio.BINS, generator=torch.Generator().manual_seed(0))
    turned = audio.to_wave(audio.from_wave(wave, True).roll(7, -1), True)
    torch.testing.assert_close(turned, wave.roll(7 * audio.BINS), atol=1e-5, rtol=0)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    wave = torch.from_numpy(tone(8000)).float()
    assert audio.write_wav(tmp_path / "a.wav", wave) == 1
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"
    torch.testing.assert_close(audio.read_audio(tmp_path / "a.wav", "x"), wave, atol=1e-4, rtol=0)
    first = (tmp_path / "a.wav").read_bytes()
    audio.write_wav(tmp_path / "a.wav", wave)
    assert (tmp_path / "a.wav").read_bytes() == first


def test_what_is_too_loud_is_made_quieter_as_a_whole(tmp_path: Path) -> None:
    assert audio.write_wav(tmp_path / "a.wav", 4 * torch.from_numpy(tone(8000))) == pytest.approx(0.5, rel=1e-3)
    np.testing.assert_allclose(read(tmp_path / "a.wav"), 2 * tone(8000), atol=1e-3)
