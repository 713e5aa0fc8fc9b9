"""How the ranks of a run stay together: the first decides whether it goes on, and from where."""

from __future__ import annotations

from text23d import interruption
from text23d.engine.build import Parts
from text23d.engine.loop import advance
from text23d.engine.ranks import Ranks
from text23d.engine.state import RunState
from text23d.engine.thrift import thriftily
from text23d.errors import Diverged

GO, STATE, OVER = 0, 1, 2
"""What the first says: an iteration follows; it follows from a state that the others have not; none follows."""


def lead(state: RunState, ranks: Ranks) -> None:
    """On the first rank, before an iteration: the others get its state at the beginning, and where it went back, which
    changes its rates and its stream."""
    if ranks.alone:
        return
    now = state.rate, state.stream
    with ranks.together():
        ranks.word(GO if now == ranks.followed else STATE)
        if now != ranks.followed:
            ranks.spread(state.state())
    ranks.followed = now


def dismiss(ranks: Ranks) -> None:
    """On the first rank, after all iterations: the others need not wait for what it makes of them."""
    if not ranks.alone:
        ranks.word(OVER)
        ranks.followed = None


def follow(state: RunState, parts: Parts) -> None:
    """On the other ranks: take the iterations that the first takes. Raises as `advance`, but for what the first may go
    back from."""
    ranks = parts.ranks
    while True:
        with ranks.together():
            interruption.check()
            said = ranks.word()
            if said == STATE:
                state.load(ranks.spread({}))
        if said == OVER:
            return
        try:
            thriftily(lambda sparing: advance(state, sparing), state, parts, lambda line: None)
        except Diverged:
            continue
