"""Contact sheets of the world: python -m text23d.world --out outputs/world.png."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("world")  # which imports what follows once the command line is read

from collections.abc import Sequence
from pathlib import Path

from text23d.errors import UserError
from text23d.terminal import Parser
from text23d.worlds.objects.sheet import captioned, kinds_by_colours, save_png, turntables

SHEETS = {"colours": kinds_by_colours, "turn": turntables, "captions": captioned}
SHOWN = "every kind in every colour, one of each from twelve sides, or objects as the prior's training set has them"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="text23d world", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/world.png"), help="the picture to write")
    parser.add_argument("--seed", type=int, default=0, help="which random objects, 0 or more")
    parser.add_argument("--size", type=int, default=64, help="pixels a side of each object's picture")
    parser.add_argument("--show", choices=list(SHEETS), default="colours", help=SHOWN)
    given = parser.parse_args(arguments)
    if given.seed < 0 or not 1 <= given.size <= 512:
        raise UserError(f"got seed {given.seed}, size {given.size}: seed must be 0 or more, size 1 to 512")
    save_png(given.out, SHEETS[given.show](given.seed, given.size))
    print(given.out)
    return 0
