"""Landscapes as a world: captioned surroundings, seen in crops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from text23d.contracts import Example, Head, Label
from text23d.crops import SPAN, Crops, places
from text23d.settings import Flag, whole
from text23d.worlds import corruption
from text23d.worlds.landscapes import caption as grammar
from text23d.worlds.landscapes.canvas import cut
from text23d.worlds.landscapes.caption import SCENES, TIMES, WEATHERS, Caption
from text23d.worlds.landscapes.scenes import surroundings

FINER = 16
"""Columns of the surroundings for one of a crop, of which SPAN is an eighth: twice as many."""
FLAT_SHARE, NEAR_SHARE = 0.55, 0.7
LEVEL, STEEPEST = 7.0, 25.0
"""Deviation and limit of the elevations, in degrees, of crops that show the horizon."""


@dataclass(frozen=True)
class Landscapes:
    """Implements `contracts.World`.

    size   side of a crop in pixels
    level  whether all crops are flat and show the horizon, as those of judges do
    """

    size: Annotated[int, whole(1, 1024)] = 64
    level: Flag = False

    @property
    def name(self) -> str:
        return "landscapes"

    @property
    def channels(self) -> int:
        return 3

    @property
    def shape(self) -> tuple[int, ...]:
        return self.size, self.size

    @property
    def medium(self) -> str:
        return f"{self.size} x {self.size} RGB crops of panoramas, conditioned on a caption and where they look"

    @property
    def words(self) -> tuple[str, ...]:
        return grammar.words()

    @property
    def heads(self) -> tuple[Head, ...]:
        groups = {"scene": SCENES, "time": TIMES, "weather": WEATHERS}
        return tuple(Head(name, "global", tuple(values)) for name, values in groups.items())

    @property
    def splits(self) -> Mapping[str, int]:
        """Training and judging, and the examples that studies compare with."""
        trained = {"training": 2, "validation": 1002, "judge": 7002, "judge_validation": 8002}
        return trained | {"evaluation_reference": 90_102, "comparison_reference": 90_103}

    @property
    def unseen(self) -> tuple[Caption, ...]:
        return ()

    @property
    def arrays(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """images: row 0 at the top; crop: azimuth and elevation in degrees, and 1 for a flat one."""
        return {"images": ((self.size, self.size, 3), "uint8"), "crop": ((3,), "float32")}

    @property
    def light(self) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
        return None

    def tokens(self, prompt: str, setting: str = "prompt") -> tuple[str, ...]:
        return tuple(grammar.known_tokens(prompt, setting))

    def read(self, prompt: str) -> Caption:
        return grammar.parse(prompt)

    def say(self, caption: Caption, rng: np.random.Generator | None = None) -> str:
        return grammar.caption_text(caption if rng is None else grammar.forgetful(caption, rng), rng)

    def caption(self, fields: Mapping[str, Any]) -> Caption:
        return grammar.read_caption(fields)

    def example(self, seed: int, index: int, views: int) -> Example:
        rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
        caption = grammar.draw(rng)
        assert caption.scene and caption.time and caption.weather, "examples show something of everything"
        canvas, rows = (
            surroundings(caption.scene, caption.time, caption.weather, rng, FINER * self.size),
            self._crops(views, rng),
        )
        images = (crops(canvas, to_crops(rows), self.size) * 255 + 0.5).astype(np.uint8)
        return Example(caption, {"images": images, "crop": rows})

    def _crops(self, count: int, rng: np.random.Generator) -> NDArray[Any]:
        """Where crops look, [count, 3] float32: towards the sun more often than away from it."""
        turn = rng.uniform(-1.0, 1.0, count)
        azimuth = 180.0 * np.sign(turn) * np.abs(turn) ** 1.4
        elevation = np.clip(rng.normal(0.0, LEVEL, count), -STEEPEST, STEEPEST)
        flat, near = rng.random(count) < FLAT_SHARE, rng.random(count) < NEAR_SHARE
        anywhere = np.rad2deg(np.arcsin(rng.uniform(-1.0, 1.0, count)))
        if self.level:
            flat[:], elevation = True, elevation * 0.5
        rows = azimuth, np.where(flat | near, elevation, anywhere), flat
        return np.stack(rows, -1).astype(np.float32)

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Crops]:
        images = torch.from_numpy(np.array(arrays["images"], dtype=np.float32))
        return images.movedim(-1, 1).contiguous() / 127.5 - 1, to_crops(arrays["crop"])

    def labels(self, caption: Caption) -> tuple[Label, ...]:
        found = (Label(head.name, getattr(caption, head.name) or "") for head in self.heads)
        return tuple(label for label in found if label.answer)

    def angles(self, captions: Sequence[Caption], views: Crops) -> Mapping[str, Tensor]:
        return {}

    def judged(self) -> Landscapes:
        return replace(self, level=True)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Moved, scaled, blurred, faded and noisy, each at random; what lies beyond the edge is grey."""
        opaque = torch.ones_like(x[:, :1])
        return corruption.corrupt(torch.cat([x, opaque], 1), generator)[:, :3]

    def scramble(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return corruption.scramble(x, generator)

    def showcase(self) -> tuple[list[Caption], Crops]:
        """Every scene at every time, in fair weather and then in others, flat and level."""
        weathers = [weather for weather in WEATHERS if weather not in ("clear", "snowy")]
        fair = [Caption(scene, time, "clear") for scene in SCENES for time in TIMES]
        other = [Caption(scene, "day", weather) for scene in SCENES for weather in weathers]
        snow = [Caption(scene, "day", "snowy") for scene in ("mountains", "forest", "town")]
        said = [*fair, *other, *snow]
        azimuth = torch.arange(len(said)) * 100.0 % 360 - 180
        return said, Crops(azimuth, torch.zeros(len(said)), torch.ones(len(said)))

    def shown(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones_like(x[:, :1])], 1)

    def facts(self) -> list[str]:
        return [
            f"scenes: {', '.join(SCENES)}",
            f"times: {', '.join(TIMES)}; weathers: {', '.join(WEATHERS)}",
            f"crops {SPAN:g} degrees wide: flat windows of a cylinder, and perspective ones looking anywhere; azimuths "
            "are told from the sun or the moon",
        ]


def to_crops(rows: NDArray[Any]) -> Crops:
    """Crops from rows [N, 3] of azimuth, elevation and whether each is flat."""
    return Crops(*torch.from_numpy(np.array(rows, dtype=np.float32)).unbind(-1))


def crops(canvas: NDArray[Any], views: Crops, size: int) -> NDArray[Any]:
    """Crops [B, size, size, 3] in [0, 1] of the surroundings, each pixel a mean of 2 x 2 places."""
    azimuth, elevation = (each.numpy() for each in places(views.rays((2 * size, 2 * size))))
    seen = cut(canvas, azimuth, elevation)
    return seen.reshape(len(views), size, 2, size, 2, 3).mean((2, 4))
