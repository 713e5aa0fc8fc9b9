"""Sounds as a world: windows of a second, at any time of pieces that go on before and after, as lapped coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from text23d import audio, lapped
from text23d.audio import RATE
from text23d.contracts import Example, Head, Label
from text23d.settings import whole
from text23d.windows import Windows
from text23d.worlds import corruption
from text23d.worlds.sounds import caption as grammar
from text23d.worlds.sounds.caption import CHORDS, FORMS, HELD, LEVELS, TEMPOS, Caption
from text23d.worlds.sounds.instruments import DRUM, INSTRUMENTS
from text23d.worlds.sounds.piece import play
from text23d.worlds.sounds.pitch import NAMES, REGISTERS

PIECE = 6.0
"""Seconds of the piece that an example's windows are of."""
FULL = 32767
DRUM_SHARE, NAMED_SHARE, HELD_SHARE = 0.16, 0.7, 0.6


@dataclass(frozen=True)
class Sounds:
    """Implements `contracts.World`: x [B, bins, frames], the coefficients of `lapped.forward`.

    bins    of the transform: frames begin every `bins` samples
    frames  of a window
    """

    bins: Annotated[int, whole(8, 1024)] = audio.BINS
    frames: Annotated[int, whole(8, 4096)] = 128

    @property
    def name(self) -> str:
        return "sounds"

    @property
    def channels(self) -> int:
        return self.bins

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.frames,)

    @property
    def medium(self) -> str:
        seconds = self.frames * self.bins / RATE
        what = f"{seconds:g} s of sound at {RATE} Hz, as {self.bins} x {self.frames} coefficients"
        return f"{what}, conditioned on a caption"

    @property
    def words(self) -> tuple[str, ...]:
        return grammar.words()

    @property
    def heads(self) -> tuple[Head, ...]:
        return (
            Head("instrument", "global", (*INSTRUMENTS, DRUM)),
            Head("form", "global", FORMS),
            Head("pitch", "global", tuple(REGISTERS)),
            Head("tempo", "global", (*TEMPOS, HELD)),
            Head("loudness", "global", tuple(LEVELS)),
            Head("name", "global", NAMES),
        )

    @property
    def splits(self) -> Mapping[str, int]:
        trained = {"training": 1, "validation": 1001, "judge": 7001, "judge_validation": 8001}
        evaluation = {"evaluation_reference": 90_001, "evaluation_world": 90_002}
        comparison = {"comparison_reference": 90_003, "comparison_world": 90_004}
        return trained | evaluation | comparison | {"sampling_reference": 90_005, "sampling_captions": 90_006}

    @property
    def unseen(self) -> tuple[Caption, ...]:
        return ()

    @property
    def arrays(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """waves: samples, of full scale 32767, of the frames and the half of the last that goes beyond."""
        return {"waves": (((self.frames + 1) * self.bins,), "int16")}

    @property
    def light(self) -> None:
        return None

    def tokens(self, prompt: str, setting: str = "prompt") -> tuple[str, ...]:
        return tuple(grammar.known_tokens(prompt, setting))

    def read(self, prompt: str) -> Caption:
        return grammar.parse(prompt)

    def say(self, caption: Caption, rng: np.random.Generator | None = None) -> str:
        return grammar.caption_text(caption, rng)

    def caption(self, fields: Mapping[str, Any]) -> Caption:
        return Caption(**fields)

    def example(self, seed: int, index: int, views: int) -> Example:
        rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
        caption, length = draw_caption(rng), (self.frames + 1) * self.bins
        wave = play(caption, max(PIECE, 2 * length / RATE), rng)
        starts = rng.integers(0, len(wave) - length, views, endpoint=True)
        windows = np.stack([wave[start : start + length] for start in starts])
        return Example(caption, {"waves": np.round(windows * FULL).astype(np.int16)})

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Windows]:
        waves = torch.from_numpy(arrays["waves"].astype(np.float32) / FULL)
        return lapped.forward(waves, self.bins), Windows.untold(len(waves), 1)

    def labels(self, caption: Caption) -> tuple[Label, ...]:
        fields = {name: getattr(caption, name) for name in ("instrument", "form", "pitch", "tempo", "loudness", "name")}
        return tuple(Label(name, answer) for name, answer in fields.items() if answer is not None)

    def angles(self, captions: Sequence[Caption], views: Windows) -> Mapping[str, Tensor]:
        return {}

    def judged(self) -> Sounds:
        return self

    def corrupt(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A little louder or quieter, duller or sharper, and noisy, each at random."""

        def uniform(low: float, high: float) -> Tensor:
            return (low + (high - low) * torch.rand(len(x), 1, 1, generator=generator)).to(x.device)

        tilt = torch.linspace(0, 1, self.bins, device=x.device)[:, None]
        gain = uniform(0.9, 1.1) * torch.exp(uniform(-1.5, 0.5) * tilt)
        return x * gain + uniform(0.0, 0.05) * torch.randn(x.shape, generator=generator).to(x.device)

    def scramble(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Tiles of some bins and frames in another order."""
        return corruption.scramble(x[:, None], generator)[:, 0]

    def showcase(self) -> tuple[list[Caption], Any]:
        prompts = [
            f"a {tempo} {pitch} {instrument} {form}"
            for instrument in INSTRUMENTS
            for tempo, pitch, form in (
                ("slow", "low", "melody"),
                ("fast", "high", "melody"),
                ("moderate", "middle", "chord"),
                ("slow", "middle", "note in g"),
            )
        ]
        prompts += ["a low organ chord in c", "a high flute note", "a slow drum beat", "a fast drum beat"]
        prompts += ["a quiet string melody", "a loud bell melody", "a drum beat", "a flute melody"]
        captions = [self.read(prompt) for prompt in prompts]
        return captions, Windows.untold(len(captions), 1)

    def shown(self, x: Tensor) -> Tensor:
        return lapped.picture(x)

    def facts(self) -> list[str]:
        return [
            f"instruments: {', '.join((*INSTRUMENTS, DRUM))}",
            f"tempos, in notes a second: {', '.join(f'{name} {rate:g}' for name, rate in TEMPOS.items())}",
            f"pitches: the white keys of the octaves {', '.join(f'{n} (c{o})' for n, o in REGISTERS.items())}",
            f"limits: one instrument at a time, {RATE} Hz, mono",
        ]


def draw_caption(rng: np.random.Generator) -> Caption:
    """A caption at random: every playable one may come."""
    loudness = str(rng.choice(tuple(LEVELS)))
    tempo = str(rng.choice(tuple(TEMPOS)))
    if rng.random() < DRUM_SHARE:
        return Caption(DRUM, "beat", None, tempo, loudness)
    instrument, pitch = str(rng.choice(tuple(INSTRUMENTS))), str(rng.choice(tuple(REGISTERS)))
    form = str(rng.choice(("note", "chord", "melody"), p=(0.25, 0.3, 0.45)))
    caption = Caption(instrument, form, pitch, tempo, loudness)
    if form != "melody" and rng.random() < NAMED_SHARE:
        caption = replace(caption, name=str(rng.choice(CHORDS if form == "chord" else NAMES)))
    if grammar.may_be_held(instrument, form) and rng.random() < HELD_SHARE:
        caption = replace(caption, tempo=HELD)
    return caption
