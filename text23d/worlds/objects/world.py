"""The toy box as a world: captioned 3-D objects, seen by orbiting cameras."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from text23d.cameras import Cameras
from text23d.contracts import Example, Head, Label
from text23d.settings import Flag, NonNegative, whole
from text23d.worlds import corruption
from text23d.worlds.objects import caption as grammar
from text23d.worlds.objects.caption import Caption
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.parts import Object
from text23d.worlds.objects.render import Light, pictures, render, sample_light
from text23d.worlds.objects.scene import HELD_OUT, draw_caption, make
from text23d.worlds.objects.views import cameras_from, sample_cameras, to_rows

COLOURLESS_SHARE, KINDLESS_SHARE = 0.08, 0.04
AZIMUTHS = 24
"""Bins of the azimuth that judges find: 15 degrees each."""
JUDGE_LIGHT = 2.5
"""By how much more the light varies for judges than for priors: they must not depend on it."""


@dataclass(frozen=True)
class Objects:
    """Implements `contracts.World`.

    size             side of a picture in pixels
    light_variation  see `render.sample_light`
    held_out, pairs  see `scene.draw_caption`
    """

    size: Annotated[int, whole(1, 1024)] = 64
    light_variation: NonNegative = 1.0
    held_out: Flag = False
    pairs: Flag = True

    @property
    def name(self) -> str:
        return "objects"

    @property
    def channels(self) -> int:
        return 4

    @property
    def shape(self) -> tuple[int, ...]:
        return self.size, self.size

    @property
    def medium(self) -> str:
        return f"{self.size} x {self.size} RGBA pictures, conditioned on a caption and a camera"

    @property
    def words(self) -> tuple[str, ...]:
        return grammar.words()

    @property
    def heads(self) -> tuple[Head, ...]:
        """The kind; the colour of the thing and of each part that has one of its own; and the azimuth."""
        colours = tuple(COLOURS)
        return (
            Head("kind", "global", tuple(KINDS)),
            Head("colour", "located", colours),
            Head("part", "located", colours, grammar.part_words()),
            Head("azimuth", "circular", tuple(f"{360 * index // AZIMUTHS}" for index in range(AZIMUTHS))),
        )

    @property
    def splits(self) -> Mapping[str, int]:
        """Of studies: those they compare with, those shown in a row of their own, and the captions of samplers."""
        trained = {"training": 1, "validation": 1001, "judge": 7001, "judge_validation": 8001}
        evaluation = {"evaluation_reference": 90_001, "evaluation_world": 90_002}
        comparison = {"comparison_reference": 90_003, "comparison_world": 90_004}
        return trained | evaluation | comparison | {"sampling_reference": 90_005, "sampling_captions": 90_006}

    @property
    def unseen(self) -> tuple[Caption, ...]:
        return tuple(Caption(kind, colour) for kind, colour in HELD_OUT)

    @property
    def arrays(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """images: premultiplied RGBA, row 0 at the top; camera: azimuth, elevation, distance and field of view, in
        degrees and scene units."""
        return {"images": ((self.size, self.size, 4), "uint8"), "camera": ((4,), "float32")}

    @property
    def light(self) -> Callable[[NDArray[Any]], NDArray[Any]]:
        return Light().irradiance

    def tokens(self, prompt: str, setting: str = "prompt") -> tuple[str, ...]:
        return tuple(grammar.known_tokens(prompt, setting))

    def read(self, prompt: str) -> Caption:
        return grammar.parse(prompt)

    def say(self, caption: Caption, rng: np.random.Generator | None = None) -> str:
        return grammar.caption_text(caption if rng is None else forgetful(caption, rng), rng)

    def caption(self, fields: Mapping[str, Any]) -> Caption:
        return grammar.read_caption(fields)

    def example(self, seed: int, index: int, views: int) -> Example:
        caption, thing, light, cameras, _ = self.scene(seed, index, views)
        images = render(thing, cameras, light, self.size)
        return Example(caption, {"images": images, "camera": to_rows(cameras)})

    def scene(self, seed: int, index: int, views: int) -> tuple[Caption, Object, Light, Cameras, np.random.Generator]:
        """What example `index` shows, in which light and from where, and the generator that all was drawn from."""
        rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
        caption = draw_caption(index, rng, self.held_out, self.pairs)
        return caption, make(caption, rng), sample_light(rng, self.light_variation), sample_cameras(views, rng), rng

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Any]:
        return pictures(arrays["images"]), cameras_from(arrays["camera"])

    def labels(self, caption: Caption) -> tuple[Label, ...]:
        """None where there are two things, or where it is not said what the thing is."""
        if caption.kind is None or caption.other is not None:
            return ()
        colour = () if caption.colour is None else (Label("colour", caption.colour),)
        return (Label("kind", caption.kind), *colour, *(Label("part", each, word) for word, each in caption.parts))

    def angles(self, captions: Sequence[Caption], views: Cameras) -> Mapping[str, Tensor]:
        has_front = torch.tensor([caption.kind is not None and KINDS[caption.kind].front for caption in captions])
        return {"azimuth": torch.where(has_front, views.azimuth, torch.nan)}

    def judged(self) -> Objects:
        return replace(self, light_variation=JUDGE_LIGHT, held_out=True, pairs=False)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return corruption.corrupt(x, generator)

    def scramble(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return corruption.scramble(x, generator)

    def showcase(self) -> tuple[list[Caption], Any]:
        """Two of every kind, in the colours and from the azimuths of an even round."""
        colours = list(COLOURS)
        captions = [Caption(kind, colours[(2 * k + i) % len(colours)]) for k, kind in enumerate(KINDS) for i in (0, 1)]
        azimuths = (np.arange(len(captions)) * 45.0 + 20.0) % 360
        views = np.stack([azimuths, *(np.full(len(captions), v) for v in (20.0, 3.0, 40.0))], -1)
        return captions, cameras_from(views)

    def shown(self, x: Tensor) -> Tensor:
        return x

    def facts(self) -> list[str]:
        return [
            f"kinds: {', '.join(KINDS)}",
            f"colours: {', '.join(COLOURS)}",
            "limits: one object, its parts' colours, or a pair, seen from 15 degrees below to 60 above",
        ]


def forgetful(caption: Caption, rng: np.random.Generator) -> Caption:
    """The caption, now and then without its colour or its kind. Coloured parts, adjectives and second things are always
    told: objects that are not said to have them must not."""
    drop = rng.random()
    if drop < COLOURLESS_SHARE:
        return replace(caption, colour=None)
    return replace(caption, kind=None) if drop < COLOURLESS_SHARE + KINDLESS_SHARE else caption
