"""The fixed prompts that results are compared on."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

from torch import Tensor

from text23d.cameras import Cameras
from text23d.errors import UserError
from text23d.judge.network import Asked, Judge
from text23d.paths import slug
from text23d.studies.figures import PictureSet
from text23d.worlds.objects.caption import Caption
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.world import Objects

WORLD = Objects()
GROUPS = ("plain", "parts", "held_out")


@dataclass(frozen=True)
class Prompts:
    """`conf/suite/*.yaml`: a name, and the prompts of each group."""

    name: str = "own"
    plain: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Suite:
    """name, and the group and the caption of each prompt."""

    name: str
    group: dict[str, str]
    caption: dict[str, Caption]

    @property
    def prompts(self) -> list[str]:
        return list(self.caption)

    def asked(self, prompt: str) -> Asked:
        """What pictures of this prompt should show."""
        return WORLD.labels(self.caption[prompt])

    def picture_set(self, prompt: str, pictures: Tensor, cameras: Cameras) -> PictureSet:
        """Pictures [V, 4, H, W] of one thing for this prompt, seen by these cameras."""
        front = KINDS[self.caption[prompt].kind or ""].front
        return PictureSet(prompt, self.asked(prompt), front, pictures, cameras.azimuth)


def read_suite(prompts: Prompts, judge: Judge) -> Suite:
    """Raises UserError for a prompt that cannot be read or that the judge cannot judge, for two that would share a
    folder, and where there is none."""
    group = [(prompt, name) for name in GROUPS for prompt in getattr(prompts, name)]
    if not group:
        raise UserError(f"the suite has no prompts: expected lists under {', '.join(GROUPS)}")
    for (one, _), (other, _) in combinations(group, 2):
        if slug(one) == slug(other):
            raise UserError(f"the suite's prompts {one!r} and {other!r} would share a folder: remove or reword one")
    captions = {prompt: WORLD.read(prompt) for prompt, _ in group}
    for prompt, caption in captions.items():
        labels = WORLD.labels(caption)
        if not labels or not all(map(judge.knows, labels)):
            raise UserError(
                f"the suite's prompt {prompt!r}: expected one thing, of a kind, parts and colours that the judge knows"
            )
    return Suite(prompts.name, dict(group), captions)
