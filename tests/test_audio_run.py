"""From a prompt to a sound, end to end, with a prior that has learned nothing: lengths, loops, parts, and going on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from small_prior import perturbed
from tiny import optimise

from text23d import audio
from text23d.compose import compose
from text23d.contracts import unwatched
from text23d.engine.build import Parts, build_run
from text23d.engine.state import RunState
from text23d.errors import UserError
from text23d.files import plain
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.unet import UNetConfig
from text23d.worlds.sounds.world import Sounds

CPU = torch.device("cpu")
WORLD = Sounds()


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny prior of sounds with random weights."""
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    config = UNetConfig(
        len(WORLD.words), WORLD.channels, 1, (16, 16), 1, (False, False), 16, 16, dimensions=1, features=0, sketch=1
    )
    table = {name: [0.02, 40.0] for name in ("sigma", "rms_full", "rms_views", "rms_none")}
    builtin.save(path, builtin.BuiltinPrior(perturbed(config), Vocabulary(WORLD.words), table, WORLD.shape, {}))
    return path


def made(prior: Path, *overrides: str) -> tuple[RunState, Parts]:
    first = ("prompt='a slow bell melody'", "representation=audio", "representation.seconds=2", "method.iterations=2")
    return build_run(compose("config", [*first, f"prior.weights='{prior}'", *overrides]), CPU)


def finished(prior: Path, folder: Path, *overrides: str) -> tuple[dict[str, Any], Parts, RunState]:
    state, parts = made(prior, *overrides)
    assert len(list(optimise(state, parts))) == 2
    folder.mkdir(exist_ok=True)
    done = parts.task.export(state.result(), parts.prompt, folder, unwatched, lambda *_: None)
    return done.summary["audio"], parts, state


def samples(folder: Path) -> np.ndarray:
    found, rate = soundfile.read(folder / "audio.wav")
    assert rate == audio.RATE
    return found


@pytest.mark.parametrize(("seconds", "wrap"), [(2.0, False), (3.2, True), (1.11, False)])
def test_a_sound_is_as_long_as_asked(prior: Path, tmp_path: Path, seconds: float, wrap: bool) -> None:
    facts, parts, _ = finished(
        prior, tmp_path / "a", f"representation.seconds={seconds}", f"representation.wrap={str(wrap).lower()}"
    )
    assert abs(facts["seconds"] - seconds) <= 0.004 and facts["loop"] == wrap
    wave = samples(tmp_path / "a")
    assert len(wave) == round(facts["seconds"] * audio.RATE) and np.abs(wave).max() > 0.01
    with Image.open(tmp_path / "a" / "audio.png") as picture:
        assert picture.height == 256 and picture.width <= 2000
    assert json.dumps(plain(facts)) and facts["asked_notes_per_second"] == 2.0
    assert parts.recipe.views >= 2


def test_the_same_seed_gives_the_same_bytes(prior: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        finished(prior, tmp_path / name, f"seed={seed}")
    for file in ("audio.wav", "audio.png"):
        first, again, other = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert first == again != other


def test_work_is_linear_in_length(prior: Path) -> None:
    """Windows an iteration, of which each costs the same: 16 times the length are 16 times the windows."""
    views = [made(prior, f"representation.seconds={2 * times}")[1].recipe.views for times in (1, 2, 4, 8, 16)]
    assert all(abs(each / views[0] / times - 1) < 0.15 for each, times in zip(views, (1, 2, 4, 8, 16), strict=True))


def test_each_stretch_has_its_own_prompt(prior: Path, tmp_path: Path) -> None:
    parts_of = "regions={0-1: a fast drum beat, 1-2.5: a low organ chord, 2.5-4: a flute}"
    facts, parts, state = finished(prior, tmp_path / "a", "representation.seconds=4", parts_of)
    assert "asked_notes_per_second" not in facts
    captions = [WORLD.read(prompt) for prompt in ("a fast drum beat", "a low organ chord", "a flute")]
    assert list(parts.guide.captions) == captions
    judged = parts.task.judged(state.result(), parts.guide.shape)
    assert len(judged) == 3 and all(x.shape[1:] == (64, 128) for x in judged)


@pytest.mark.parametrize("wrap", [False, True])
def test_a_given_sound_is_kept_and_gone_on_from(prior: Path, tmp_path: Path, wrap: bool) -> None:
    """Read from another rate and two channels; its last 16 ms may change."""
    tone = 0.4 * np.sin(2 * np.pi * 523.25 * np.arange(16000) / 16000)
    soundfile.write(tmp_path / "given.wav", np.stack([tone, tone], 1), 16000, subtype="PCM_24")
    given = audio.read_audio(tmp_path / "given.wav", "x").numpy()
    known = (f"constraint.audio='{tmp_path / 'given.wav'}'", f"representation.wrap={str(wrap).lower()}")
    facts, *_ = finished(prior, tmp_path / "a", "constraint=first_sound", *known)
    kept = slice(audio.BINS if wrap else 0, len(given) - 2 * audio.BINS)
    np.testing.assert_allclose(samples(tmp_path / "a")[: len(given)][kept], facts["gain"] * given[kept], atol=1e-4)
    finished(prior, tmp_path / "b")
    assert np.abs(samples(tmp_path / "b")[: len(given)][kept] - given[kept]).max() > 0.05


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (("representation.seconds=0",), "representation.seconds=0: expected a number at least 1.1"),
        (("representation.seconds=1000000",), "representation.seconds=1000000: expected a number .* at most 7200"),
        (("representation.seconds=abc",), "representation.seconds=abc: expected a number at least 1.1"),
        (("prompt='a slow violin'",), "does not know the word 'violin'"),
        (("regions={0-1: a bell, 1.5-2: a flute}",), "regions leave a hole at 1 seconds"),
        (("regions={0-1.5: a bell, 1-2: a flute}",), "regions overlap at 1 seconds"),
        (("regions={0-1: a bell, 1-3: a flute}",), r"expected a rising range in seconds within 0-2"),
        (("constraint=first_sound", "constraint.audio=none.wav"), "constraint.audio=none.wav: no such file"),
        (("constraint=first_sound", "constraint.audio={short}"), "lasts 0.01 s: expected 0.024 to less than 2"),
        (("constraint=first_sound", "constraint.audio={long}"), "lasts 3 s: expected 0.024 to less than 2"),
        (("constraint=first_sound", "constraint.audio={silent}"), "it is silent; expected a sound to go on from"),
    ],
)
def test_mistakes_are_told_in_one_line(prior: Path, tmp_path: Path, settings: tuple[str, ...], problem: str) -> None:
    files = {name: f"'{tmp_path / name}.wav'" for name in ("short", "long", "silent")}
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 24000)
    for name, wave in (("short", noise[:80]), ("long", noise), ("silent", 0 * noise[:8000])):
        soundfile.write(tmp_path / f"{name}.wav", wave, 8000)
    with pytest.raises(UserError, match=problem) as raised:
        made(prior, *(each.format(**files) if "constraint" in each else each for each in settings))
    assert "\n" not in str(raised.value)
