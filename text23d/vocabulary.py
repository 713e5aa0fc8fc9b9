"""python -m text23d.vocabulary: every word that a prompt for the built-in prior may use, and how they go together."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("vocabulary")  # which imports what follows once the command line is read

import argparse
from collections.abc import Mapping, Sequence

from text23d.worlds.objects.adjectives import STRETCH
from text23d.worlds.objects.caption import RELATIONS, WITH, words
from text23d.worlds.objects.colours import COLOURS, COLOURS_TOO
from text23d.worlds.objects.kinds import KINDS


def listing() -> str:
    lines = [
        'prompt = [adjective] [colour] kind ["with" colour part ["and" colour part]] [relation, another thing]',
        "",
    ]
    lines += [f"{'kind':<12}{'also':<22}parts that may have a colour"]
    lines += [f"{name:<12}{', '.join(kind.also):<22}{', '.join(kind.parts)}" for name, kind in KINDS.items()]
    lines += ["", "colours      " + ", ".join(name + also(name, COLOURS_TOO) for name in COLOURS)]
    lines += ["adjectives   " + ", ".join(STRETCH)]
    lines += ["relations    " + "; ".join(", ".join(ways) for ways in RELATIONS.values())]
    lines += [
        "             on: " + ", ".join(name for name, kind in KINDS.items() if kind.support) + " can carry a thing"
    ]
    lines += ["with         " + ", ".join(WITH), "", f"all {len(words())} words: " + " ".join(words())]
    return "\n".join(lines)


def also(name: str, others: Mapping[str, str]) -> str:
    found = [word for word, meant in others.items() if meant == name]
    return f" ({', '.join(found)})" if found else ""


def main(arguments: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(prog="text23d vocabulary", description=__doc__).parse_args(arguments)
    print(listing())
    return 0
