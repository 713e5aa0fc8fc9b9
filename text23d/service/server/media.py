"""What may be asked for: the media that a server offers, the prompts that they understand, and their runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from text23d.compose import compose
from text23d.errors import UserError

BUILTIN = "text23d.prior.builtin.guide.guide"
GRAMMARS = {
    "text23d.worlds.objects.world.Objects": "text23d.worlds.objects.caption",
    "text23d.worlds.landscapes.world.Landscapes": "text23d.worlds.landscapes.caption",
    "text23d.worlds.clips.world.Clips": "text23d.worlds.clips.caption",
    "text23d.worlds.sounds.world.Sounds": "text23d.worlds.sounds.caption",
}
"""Where the prompts of a world are read."""
NAME = r"[a-z][a-z0-9_]{0,30}"
EXAMPLES = {
    "objects": ("a red car", "a tall blue lighthouse with white stripes", "a blue mug on a brown table"),
    "landscapes": ("a forest at sunset", "a beach by day", "a snowy town at night"),
    "clips": ("a red car turning left", "a blue ball hopping", "a green mug moving right"),
    "sounds": ("a fast high flute melody", "a slow low piano chord", "a drum beat"),
}
"""Prompts to begin with, by the world that reads them."""
TELLING = {"prior=sd15 reads any prompt; ": "", "python -m text23d.vocabulary lists all": "/api/media lists all words"}
"""What a grammar tells a person at a command line, and what it means to one who has none."""


class Grammar(Protocol):
    """The reading of a person's prompt."""

    def parse(self, prompt: str) -> Any: ...

    def words(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Medium:
    """overrides: of its runs. iterations: that a run has unless told otherwise. grammar: the module that reads its
    prompts; None: its prior takes any. may: the settings of a request that its runs have."""

    name: str
    overrides: tuple[str, ...]
    iterations: int
    grammar: str | None
    may: tuple[str, ...]

    def check(self, prompt: str) -> None:
        """Raises UserError, in one line, for a prompt that the prior does not understand."""
        if self.grammar is None:
            return
        try:
            _grammar(self.grammar).parse(prompt)
        except UserError as error:
            said = str(error)
            for told, instead in TELLING.items():
                said = said.replace(told, instead)
            raise UserError(said) from error

    @property
    def words(self) -> list[str]:
        """All that a prompt may use; empty: anything."""
        return [] if self.grammar is None else sorted(_grammar(self.grammar).words())

    @property
    def examples(self) -> list[str]:
        """Prompts to begin with, that are understood."""
        world = (self.grammar or "").split(".")[-2:-1]
        return [each for each in EXAMPLES.get(world[0] if world else "objects", ()) if self._understands(each)]

    def _understands(self, prompt: str) -> bool:
        try:
            self.check(prompt)
        except UserError:
            return False
        return True

    def configured(self, prompt: str, settings: Mapping[str, Any], previews: int) -> dict[str, Any]:
        """The configuration of a run of the main job. settings: seed, iterations and guidance, each where given.
        Raises UserError."""
        values: dict[str, Any] = {"prompt": prompt, "seed": settings.get("seed") or 0, "stages": previews}
        for name, key in SETTINGS.items():
            if settings.get(name) is not None:
                values[key] = settings[name]
        return compose("config", self.overrides, **values)


SETTINGS = {"iterations": "method.iterations", "guidance": "prior.guidance"}
"""What a request may set beside its prompt and its seed, and the main job's name for it."""


@cache
def _grammar(module: str) -> Grammar:
    grammar: Any = import_module(module)
    return grammar


def read_media(media: Mapping[str, Sequence[str]]) -> dict[str, Medium]:
    """The media of the setting `server.media`, name -> overrides. Raises UserError for names and overrides that do not
    serve."""
    if not media:
        raise UserError("server.media is empty: expected at least one, as in server.media.object=[]")
    return {name: _medium(name, overrides) for name, overrides in media.items()}


def _medium(name: str, overrides: Sequence[str]) -> Medium:
    said = f"server.media.{name}"
    if not re.fullmatch(NAME, name):
        raise UserError(f"{said}: expected a name of small letters, digits and _, 31 at most")
    forbidden = next((each for each in overrides if re.match(r"[+~]*(hydra|prompts?|resume|viewer)\b", each)), None)
    if forbidden is not None:
        raise UserError(f"{said}: {forbidden} is the server's own to say; leave it out")
    try:
        cfg = compose("config", overrides, prompt="a red car")
    except UserError as error:
        raise UserError(f"{said}: {error}") from error
    iterations = (cfg.get("method") or {}).get("iterations")
    if not isinstance(iterations, int):
        raise UserError(f"{said}: its runs have no method.iterations; choose a method that has")
    builtin = cfg["prior"].get("_target_") == BUILTIN
    grammar = GRAMMARS.get(cfg["world"]["_target_"]) if builtin else None
    may = ("seed", "iterations", *(["guidance"] if "guidance" in cfg["prior"] else []))
    return Medium(name, tuple(overrides), iterations, grammar, may)
