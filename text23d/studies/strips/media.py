"""What each medium adds to the study: examples of its world to compare with, and figures of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from text23d import audio
from text23d.artifact.hearing import high_band
from text23d.crops import Crops
from text23d.judge.network import Judge
from text23d.studies.strips.figures import means, seam_rank, step_ratio
from text23d.studies.strips.made import Made
from text23d.tasks.listening import Listener
from text23d.windows import Windows
from text23d.worlds.clips.caption import COLOURS
from text23d.worlds.clips.motions import MOTIONS
from text23d.worlds.clips.world import Clips
from text23d.worlds.landscapes.caption import SCENES, TIMES, WEATHERS
from text23d.worlds.landscapes.scenes import surroundings
from text23d.worlds.landscapes.world import FINER, Landscapes, crops
from text23d.worlds.sounds.piece import play
from text23d.worlds.sounds.world import FULL, PIECE, Sounds

TOGETHER = 8
"""Windows of one example of the world, such as all round one panorama."""
TEMPO_WITHIN = 0.05


class Medium(ABC):
    """world: of its examples; guidance: that of the runs; columns: titles of its own figures."""

    world: ClassVar[Any]
    guidance: ClassVar[float] = 3.0
    columns: ClassVar[Mapping[str, str]]

    def views(self, count: int) -> Any:
        """What the prior is told of so many windows."""
        return Windows.untold(count, len(self.world.shape))

    def examples(self, prompt: str, count: int) -> Tensor:
        """Windows [count, C, *S] of what this prompt asks for, what it leaves open drawn; TOGETHER of each example."""
        caption, seed = self.world.read(prompt), self.world.splits["comparison_reference"]
        pieces = [self.several(caption, np.random.default_rng([seed, i])) for i in range(-(-count // TOGETHER))]
        return torch.cat(pieces)[:count]

    @abstractmethod
    def several(self, caption: Any, rng: np.random.Generator) -> Tensor:
        """TOGETHER windows of one example."""

    @abstractmethod
    def figures(self, judge: Judge, made: Sequence[Made]) -> dict[str, float]:
        """Means over results of one prompt each."""


class Panoramas(Medium):
    world = Landscapes()
    columns: ClassVar = {"edges": "step at edges / elsewhere", "seam": "larger steps than the seam's"}

    def views(self, count: int) -> Crops:
        """Flat and level, TOGETHER to a turn."""
        azimuth = (torch.arange(count) % TOGETHER + 0.5) * (360 / TOGETHER) - 180
        return Crops(azimuth, torch.zeros(count), torch.ones(count))

    def several(self, caption: Any, rng: np.random.Generator) -> Tensor:
        scene, time = caption.scene or str(rng.choice(list(SCENES))), caption.time or str(rng.choice(list(TIMES)))
        weather = caption.weather or str(rng.choice(list(WEATHERS)[:2]))  # a prompt that says nothing means fair
        seen = surroundings(scene, time, weather, rng, FINER * self.world.size)
        return torch.from_numpy(crops(seen, self.views(TOGETHER), self.world.size)).movedim(-1, 1) * 2 - 1

    def figures(self, judge: Judge, made: Sequence[Made]) -> dict[str, float]:
        seams = [seam_rank(each.whole, each.axis) for each in made if each.wrap]
        found = {"edges": fmean(map(step_ratio, made))}
        return found | ({"seam": fmean(seams)} if seams else {})


class Videos(Medium):
    world = Clips()
    guidance = 2.0
    columns: ClassVar = {"edges": "frame difference at edges / elsewhere", "same": "first and last alike"}

    def several(self, caption: Any, rng: np.random.Generator) -> Tensor:
        colour = caption.colour or str(rng.choice(COLOURS))
        motion = caption.motion or str(rng.choice(list(MOTIONS)))
        images = self.world.filmed(replace(caption, colour=colour, motion=motion), TOGETHER, rng)
        x: Tensor = self.world.decode({"images": images})[0]
        return x

    def figures(self, judge: Judge, made: Sequence[Made]) -> dict[str, float]:
        """same: the share in which the judge finds one kind and one colour in the first window and in the last."""
        ends = [judge.look(each.beside(self.world.shape)[[0, -1]]) for each in made]
        same = [all(len(set(end[head].argmax(-1).tolist())) == 1 for head in ("kind", "colour")) for end in ends]
        return {"edges": fmean(map(step_ratio, made)), "same": fmean(same)}


class SoundPieces(Medium):
    world = Sounds()
    columns: ClassVar = {
        "clicks": "high band at edges / elsewhere",
        "in_tune": "notes within a quarter tone",
        "tempo_right": "tempo within 5 %",
        "tempo_error": "tempo's error",
    }

    def several(self, caption: Any, rng: np.random.Generator) -> Tensor:
        wave, length = play(caption, PIECE, rng), (self.world.frames + 1) * self.world.bins
        starts = rng.integers(0, len(wave) - length, TOGETHER, endpoint=True)
        waves = np.stack([np.round(wave[start : start + length] * FULL) for start in starts])
        x: Tensor = self.world.decode({"waves": waves})[0]
        return x

    def figures(self, judge: Judge, made: Sequence[Made]) -> dict[str, float]:
        """By arithmetic alone. in_tune: over all notes; tempo_error: relative, 1 where no tempo is heard, over results
        of which one is asked for."""
        waves = [audio.to_wave(each.whole, each.wrap).numpy() for each in made]
        facts = [Listener(self.world).heard(wave, each.prompts[0]) for wave, each in zip(waves, made, strict=True)]
        found = {"clicks": fmean(click_ratio(wave, each) for wave, each in zip(waves, made, strict=True))}
        told = [each for each in facts if each.get("notes")]
        if told:
            notes = sum(each["notes"] for each in told)  # type: ignore[misc]
            found["in_tune"] = sum(each["notes"] * each["in_tune"] for each in told) / notes  # type: ignore[operator,misc]
        errors = [tempo_error(each) for each in facts if each.get("asked_notes_per_second")]
        if errors:
            found["tempo_right"] = fmean(each <= TEMPO_WITHIN for each in errors)
            found["tempo_error"] = fmean(errors)
        return found


def tempo_error(facts: Mapping[str, float | int | None]) -> float:
    """|heard / asked - 1| of what `Listener.heard` says; 1 where none is heard."""
    heard, asked = facts["notes_per_second"], facts["asked_notes_per_second"]
    return 1.0 if heard is None or asked is None else abs(heard / asked - 1)


def click_ratio(wave: np.ndarray, made: Made) -> float:
    """The high band where windows of the last iteration begin or end, relative to elsewhere, by geometric means, which
    one loud note does not decide: 1 where nothing clicks."""
    found = torch.from_numpy(np.log(high_band(wave, audio.RATE, audio.BINS)))
    at, elsewhere = means(found, made.edges() - int(not made.wrap))
    return (at - elsewhere).exp().item()


MEDIA: Mapping[str, Medium] = {"panorama": Panoramas(), "video": Videos(), "audio": SoundPieces()}
"""By `representation`."""
