"""python -m text23d.vocabulary: every word that a prompt for the built-in prior may use, and how they go together."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("vocabulary")  # which imports what follows once the command line is read

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from text23d.contracts import World
from text23d.paths import conf_dir
from text23d.settings import build
from text23d.terminal import Parser
from text23d.worlds.objects.listing import listing


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="text23d vocabulary", description=__doc__)
    worlds = sorted(path.stem for path in (conf_dir() / "world").glob("*.yaml"))
    parser.add_argument("--world", choices=worlds, default="objects", help="whose words")
    name = parser.parse_args(arguments).world
    print(listing() if name == "objects" else words_of(name))
    return 0


def words_of(name: str) -> str:
    """What there is in a world of the configuration, and its words."""
    section = OmegaConf.to_container(OmegaConf.load(conf_dir() / "world" / f"{name}.yaml"))
    world: World[Any] = build(section, "world", World)
    return "\n".join([*world.facts(), f"words: {', '.join(world.words)}"])
