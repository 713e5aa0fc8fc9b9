"""The world of sounds: its grammar, its pitches and tempos by arithmetic, and what its windows are of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from text23d import audio, lapped
from text23d.artifact import hearing
from text23d.errors import UserError
from text23d.tasks.listening import Listener, pitches
from text23d.worlds.sounds.caption import TEMPOS, Caption, parse
from text23d.worlds.sounds.instruments import INSTRUMENTS
from text23d.worlds.sounds.piece import play
from text23d.worlds.sounds.pitch import REGISTERS, degree, frequency
from text23d.worlds.sounds.world import FULL, Sounds


def played(prompt: str, seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    return play(parse(prompt), seconds, np.random.default_rng(seed))


def test_prompts_are_understood() -> None:
    for prompt, caption in {
        "a slow bell melody": Caption("bell", "melody", "middle", "slow"),
        "The LOUD, deep chimes!": Caption("bell", "note", "low", "moderate", "loud"),
        "a fast drum beat": Caption("drum", "beat", None, "fast"),
        "a quick rhythm": Caption("drum", "beat", None, "fast"),
        "drums": Caption("drum", "beat", None),
        "a low organ chord": Caption("organ", "chord", "low", "held"),
        "a steady organ chord in a": Caption("organ", "chord", "middle", "moderate", name="a"),
        "a chord in c by a harp": Caption("string", "chord", name="c"),
        "a high flute note b": Caption("flute", "note", "high", "held", name="b"),
        "a recording of soft guitar melodies": Caption("string", "melody", loudness="quiet"),
    }.items():
        assert parse(prompt) == caption, prompt


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("  ", 'prompt is empty: say what to play, for example "a slow bell melody"'),
        ("a slow violin melody", "does not know the word 'violin'"),
        ("a slow bel melody", r"'bel' \(did you mean bell"),
        ("a slow melody", "the prompt names no instrument: name one of bell, flute"),
        ("a slow fast bell", "the prompt says both slow and fast: ask for one"),
        ("a bell and a flute", "does not know the word 'and'"),
        ("a drum melody", "a drum plays no melody: a drum plays beats"),
        ("a flute beat", "a flute plays no beat"),
        ("a low drum", 'a drum has no pitch: leave out "low"'),
        ("a held bell", "a bell note cannot be held: notes and chords of flute and organ can"),
        ("an organ chord in b", "a chord in b is not known"),
        ("a flute melody in c", "a melody in c is not known"),
    ],
)
def test_what_cannot_be_played_is_told_in_one_line(prompt: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as raised:
        parse(prompt)
    assert "\n" not in str(raised.value)


def test_pitches_are_those_of_equal_temperament() -> None:
    assert frequency("a", 4) == 440 and frequency("c", 4) == pytest.approx(261.6256, abs=1e-4)
    assert degree("low", 7) == pytest.approx(degree("middle", 0)) == pytest.approx(2 * degree("low", 0))
    assert [round(1200 * np.log2(degree("high", key + 1) / degree("high", key))) for key in range(7)] == [
        200, 200, 100, 200, 200, 200, 100,
    ]  # fmt: skip


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_each_instrument_plays_what_is_asked_for(instrument: str) -> None:
    listener = Listener(Sounds())
    for register in REGISTERS:
        for tempo in TEMPOS:
            prompt = f"a {tempo} {register} {instrument} melody"
            heard = listener.heard(played(prompt), prompt)
            assert heard["notes_per_second"] == pytest.approx(TEMPOS[tempo], rel=0.05), prompt
            assert (heard["notes"] or 0) >= 4 and heard["in_tune"] == 1, prompt
        prompt = f"a slow {register} {instrument} note in g"
        for each in pitches(played(prompt), held=False):
            assert abs(hearing.cents(each, degree(register, 4))) < 10


@pytest.mark.parametrize("tempo", TEMPOS)
def test_a_beat_has_its_tempo(tempo: str) -> None:
    for seed in range(4):
        assert hearing.tempo(played(f"a {tempo} drum beat", 4.0, seed), audio.RATE) == pytest.approx(
            TEMPOS[tempo], rel=0.05
        )


def test_a_chord_has_its_three_tones_and_is_held() -> None:
    wave = played("a flute chord in c")
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    hertz = np.fft.rfftfreq(len(wave), 1 / audio.RATE)
    for key in (0, 2, 4):
        near = np.abs(hertz - degree("middle", key)) < 2
        assert spectrum[near].max() > 0.2 * spectrum.max()
    assert len(hearing.onsets(wave[800:], audio.RATE)) <= 1


def test_loudness_is_the_largest_sample() -> None:
    for loudness, level in {"quiet": 0.25, "normal": 0.5, "loud": 0.95}.items():
        assert np.abs(played(f"a {loudness} bell melody")).max() == pytest.approx(level, rel=1e-5)


def test_windows_are_of_one_piece_and_keep_its_wave() -> None:
    world = Sounds()
    made = world.example(3, 5, 3)
    x, views = world.decode(made.arrays)
    assert x.shape == (3, 64, 128) and views.features().shape == (3, 0) and len(views.rows(slice(1, 3))) == 2
    inner = slice(audio.BINS, -audio.BINS)
    wave = lapped.inverse(x)[:, inner]
    stored = torch.from_numpy(made.arrays["waves"].astype(np.float32) / FULL)
    torch.testing.assert_close(wave, stored[:, inner], atol=1e-5, rtol=0)


def test_the_tempo_of_other_prompts_is_heard_alone() -> None:
    listener = Listener(Sounds())
    assert listener.heard(np.zeros(8000), "a slow bell melody")["notes_per_second"] is None
    assert set(listener.heard(played("a fast drum beat"), "whale song")) == {"notes_per_second"}
