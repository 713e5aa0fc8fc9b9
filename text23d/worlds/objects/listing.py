"""Every word that a prompt may use, and how they go together, for a person to read."""

from __future__ import annotations

from collections.abc import Mapping

from text23d.worlds.objects.adjectives import STRETCH
from text23d.worlds.objects.caption import RELATIONS, WITH, words
from text23d.worlds.objects.colours import COLOURS, COLOURS_TOO
from text23d.worlds.objects.kinds import KINDS


def listing() -> str:
    """The grammar in a line, then the words of each sort."""
    lines = [
        'prompt = [adjective] [colour] kind ["with" colour part ["and" colour part]] [relation, another thing]',
        "",
        f"{'kind':<12}{'also':<22}parts that may have a colour",
        *(f"{name:<12}{', '.join(kind.also):<22}{named(kind.parts, kind.part_also)}" for name, kind in KINDS.items()),
        "",
        f"colours      {named(COLOURS, COLOURS_TOO)}",
        f"adjectives   {', '.join(STRETCH)}",
        f"relations    {'; '.join(', '.join(ways) for ways in RELATIONS.values())}",
        f"             on: {', '.join(name for name, kind in KINDS.items() if kind.support)} can carry a thing",
        f"with         {', '.join(WITH)}",
        "",
        f"all {len(words())} words: {' '.join(words())}",
    ]
    return "\n".join(lines)


def named(names: Mapping[str, object], others: Mapping[str, str]) -> str:
    """The names, each with the other words for it."""
    also = {name: [word for word, meant in others.items() if meant == name] for name in names}
    return ", ".join(f"{name} ({', '.join(words)})" if words else name for name, words in also.items())
