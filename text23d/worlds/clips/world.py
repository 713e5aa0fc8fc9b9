"""The toy box as clips: one thing that moves, seen by a camera that does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from text23d.cameras import Cameras
from text23d.contracts import Example, Head, Label, Shape
from text23d.settings import NonNegative, whole
from text23d.windows import Windows
from text23d.worlds import corruption
from text23d.worlds.clips import caption as grammar
from text23d.worlds.clips.caption import COLOURS, KINDS, ROUND, Caption
from text23d.worlds.clips.motions import MOTIONS, Course
from text23d.worlds.objects.caption import Caption as Named
from text23d.worlds.objects.render import pictures, render, sample_light
from text23d.worlds.objects.scene import make

ELEVATION, DISTANCE, FOV = (5.0, 25.0), 3.0, 40.0
JUDGE_LIGHT = 2.5
"""By how much more the light varies for judges than for priors: they must not depend on it."""


@dataclass(frozen=True)
class Shots:
    """What is seen in each frame: B cameras, and the part [B, 3] of what they see, as `Cameras.rays` has it."""

    cameras: Cameras
    window: Tensor

    def __len__(self) -> int:
        return len(self.cameras)

    def rays(self, shape: Shape) -> tuple[Tensor, Tensor]:
        return self.cameras.rays(shape, window=self.window)

    @staticmethod
    def cat(several: Sequence[Shots]) -> Shots:
        return Shots(Cameras.cat([each.cameras for each in several]), torch.cat([each.window for each in several]))


def shots(course: Course, elevation: float) -> Shots:
    """A course as seen from so many degrees above. Where the thing is in the frame, and how large, says which part is
    shown of what a camera before it sees."""
    extent = 1 / course.scale
    window = np.stack([0.5 - extent * (0.5 + course.x / 2), 0.5 - extent * (0.5 - course.y / 2), extent], -1)
    columns = course.azimuth, *(np.full_like(extent, value) for value in (elevation, DISTANCE, FOV))
    return Shots(Cameras(*(torch.from_numpy(each).float() for each in columns)), torch.from_numpy(window).float())


@dataclass(frozen=True)
class Clips:
    """Implements `contracts.World`.

    frames, size     of a clip: their number, and the side of each in pixels
    light_variation  see `render.sample_light`
    """

    frames: Annotated[int, whole(2, 1024)] = 8
    size: Annotated[int, whole(1, 1024)] = 32
    light_variation: NonNegative = 1.0

    name = "clips"
    channels = 4
    light = None

    @property
    def shape(self) -> Shape:
        return self.frames, self.size, self.size

    @property
    def medium(self) -> str:
        return f"clips of {self.frames} RGBA pictures of {self.size} x {self.size}, conditioned on a caption"

    @property
    def words(self) -> tuple[str, ...]:
        return grammar.words()

    @property
    def heads(self) -> tuple[Head, ...]:
        return (
            Head("kind", "global", KINDS),
            Head("colour", "located", COLOURS),
            Head("motion", "global", tuple(MOTIONS)),
        )

    @property
    def splits(self) -> Mapping[str, int]:
        return {
            "training": 1,
            "validation": 1001,
            "judge": 7001,
            "judge_validation": 8001,
            "comparison_reference": 90_001,
        }

    @property
    def unseen(self) -> tuple[Caption, ...]:
        return ()

    @property
    def arrays(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """images: premultiplied RGBA, frame by frame."""
        return {"images": ((*self.shape, 4), "uint8")}

    def tokens(self, prompt: str, setting: str = "prompt") -> tuple[str, ...]:
        return tuple(grammar.known_tokens(prompt, setting))

    def read(self, prompt: str) -> Caption:
        return grammar.parse(prompt)

    def say(self, caption: Caption, rng: np.random.Generator | None = None) -> str:
        return grammar.caption_text(caption, rng)

    def caption(self, fields: Mapping[str, Any]) -> Caption:
        return Caption(**fields)

    def example(self, seed: int, index: int, views: int) -> Example:
        """One thing, in so many clips of the same motion."""
        rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
        caption = grammar.numbered(index)
        return Example(caption, {"images": self.filmed(caption, views, rng)})

    def filmed(self, caption: Caption, views: int, rng: np.random.Generator) -> NDArray[Any]:
        """So many clips of one thing with a colour and a motion, [views, *shape, 4] uint8."""
        thing, light = make(Named(caption.kind, caption.colour), rng), sample_light(rng, self.light_variation)
        t = np.arange(self.frames, dtype=np.float64)
        clips = [shots(MOTIONS[str(caption.motion)].course(t, rng), rng.uniform(*ELEVATION)) for _ in range(views)]
        return render(thing, Shots.cat(clips), light, self.size).reshape(views, *self.shape, 4)

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Windows]:
        images = np.asarray(arrays["images"])
        x = pictures(images.reshape(-1, *images.shape[2:])).unflatten(0, images.shape[:2])
        return x.transpose(1, 2), Windows.untold(len(x), 3)

    def labels(self, caption: Caption) -> tuple[Label, ...]:
        """Nothing of the motion where a thing that looks the same from all sides turns."""
        unclear = caption.motion is None or (caption.kind in ROUND and caption.motion.startswith("turning"))
        said = (("kind", caption.kind), ("colour", caption.colour), ("motion", None if unclear else caption.motion))
        return tuple(Label(head, answer) for head, answer in said if answer)

    def angles(self, captions: Sequence[Caption], views: Windows) -> Mapping[str, Tensor]:
        return {}

    def judged(self) -> Clips:
        return replace(self, light_variation=JUDGE_LIGHT)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return corruption.corrupt(x, generator)

    def scramble(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The tiles of all frames in one other order, and the frames in another."""
        order = torch.randperm(x.shape[2], generator=generator).to(x.device)
        return corruption.scramble(x[:, :, order].flatten(1, 2), generator).unflatten(1, x.shape[1:3])

    def showcase(self) -> tuple[list[Caption], Windows]:
        """Each motion twice, of kinds and colours in turn."""
        ways, n = list(MOTIONS), len(MOTIONS)
        captions = [Caption(KINDS[i % n], COLOURS[(3 * i) % n], ways[(i + i // n) % n]) for i in range(2 * n)]
        return captions, Windows.untold(len(captions), 3)

    def shown(self, x: Tensor) -> Tensor:
        """Frames side by side, in two rows."""
        b, c, f, h, w = x.shape
        rows = x.reshape(b, c, 2, f // 2, h, w) if f % 2 == 0 else x[:, :, None]
        return rows.transpose(3, 4).reshape(b, c, rows.shape[2] * h, -1)

    def facts(self) -> list[str]:
        return [
            f"kinds: {', '.join(KINDS)}",
            f"colours: {', '.join(COLOURS)}",
            f"motions: {', '.join(MOTIONS)}",
            "limits: one thing, on nothing, seen by a camera that stands still",
        ]
