"""python -m text23d.vocabulary: every word that a prompt for the built-in prior may use, and how they go together."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("vocabulary")  # which imports what follows once the command line is read

from collections.abc import Sequence

from text23d.terminal import Parser
from text23d.worlds.objects.listing import listing


def main(arguments: Sequence[str] | None = None) -> int:
    Parser(prog="text23d vocabulary", description=__doc__).parse_args(arguments)
    print(listing())
    return 0
