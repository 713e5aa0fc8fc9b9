"""The fixed prompts that results are compared on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from text23d.errors import UserError
from text23d.judge.network import Asked, Judge
from text23d.paths import slug
from text23d.worlds.objects.caption import Caption
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.world import Objects

WORLD = Objects()
GROUPS = ("plain", "parts", "held_out")


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

    def front(self, prompt: str) -> bool:
        return KINDS[self.caption[prompt].kind or ""].front


def read_suite(settings: Mapping[str, Sequence[str] | str], judge: Judge) -> Suite:
    """`conf/suite/*.yaml`. Raises UserError for a prompt that cannot be read or that the judge cannot judge, for two
    that would share a folder, and for anything but lists of prompts."""
    for name, value in settings.items():
        if name != "name" and (name not in GROUPS or not isinstance(value, list)):
            raise UserError(f"the suite has {name}={value}: expected lists of prompts under {', '.join(GROUPS)}")
    listed = [(str(prompt), name) for name in GROUPS for prompt in settings.get(name, ())]
    if not listed:
        raise UserError(f"the suite has no prompts: expected lists under {', '.join(GROUPS)}")
    for (one, _), (other, _) in combinations(listed, 2):
        if slug(one) == slug(other):
            raise UserError(f"the suite's prompts {one!r} and {other!r} would share a folder: remove or reword one")
    caption = {prompt: WORLD.read(prompt) for prompt, _ in listed}
    for prompt, it in caption.items():
        labels = WORLD.labels(it)
        if not labels or not all(map(judge.knows, labels)):
            raise UserError(
                f"the suite's prompt {prompt!r}: expected one thing, of a kind, parts and colours that the judge knows"
            )
    return Suite(str(settings.get("name", "own")), dict(listed), caption)
