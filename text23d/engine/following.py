"""How the ranks of a run stay together: the first decides whether it goes on, and from where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from text23d import interruption
from text23d.engine.build import Parts, retold
from text23d.engine.commands import Guidance, Prompt, spelled, understood
from text23d.engine.loop import advance
from text23d.engine.ranks import Ranks
from text23d.engine.state import RunState
from text23d.engine.steering import altered
from text23d.engine.thrift import thriftily
from text23d.errors import Diverged

GO, STATE, OVER, WAIT, TOLD = 0, 1, 2, 3, 4
"""What the first says: an iteration follows; it follows from a state that the others have not; none follows; none yet;
what was asked for is another."""
Changes = Sequence[Prompt | Guidance]


def lead(state: RunState, ranks: Ranks, changes: Changes = ()) -> None:
    """On the first rank, before an iteration: the others get its state at the beginning, and where it went back, which
    changes its rates and its stream; and what a person has changed, where that is news."""
    if ranks.alone:
        return
    asked: list[object] = [*changes]
    now = state.rate, state.stream
    with ranks.together():
        if asked != ranks.asked:
            ranks.word(TOLD)
            ranks.broadcast(json.dumps([spelled(each) for each in changes]).encode())
            ranks.asked = asked
        ranks.word(GO if now == ranks.followed else STATE)
        if now != ranks.followed:
            ranks.spread(state.state())
    ranks.followed = now


def wait(ranks: Ranks) -> None:
    """On the first rank, again and again while it pauses: the others would take it for lost."""
    if not ranks.alone:
        with ranks.together():
            ranks.word(WAIT)


def dismiss(ranks: Ranks) -> None:
    """On the first rank, after all iterations: the others need not wait for what it makes of them."""
    if not ranks.alone:
        ranks.word(OVER)
        ranks.followed, ranks.asked = None, []


def follow(state: RunState, parts: Parts, cfg: Mapping[str, Any] | None = None) -> None:
    """On the other ranks: take the iterations that the first takes. cfg: the run's configuration as it was begun, where
    a person may change what is asked for. Raises as `advance`, but for what the first may go back from."""
    ranks = parts.ranks
    while True:
        with ranks.together():
            interruption.check()
            said = ranks.word()
            if said == TOLD:
                parts = retold(parts, altered(cfg or {}, heard(ranks.broadcast())))
            if said == STATE:
                state.load(ranks.spread({}))
        if said == OVER:
            return
        if said in (WAIT, TOLD):
            continue
        try:
            thriftily(lambda sparing: advance(state, sparing), state, parts, lambda line: None)
        except Diverged:
            continue


def heard(data: bytes) -> list[Prompt | Guidance]:
    """The changes that the first has sent."""
    told = [understood(each) for each in json.loads(data)]
    return [each for each in told if isinstance(each, Prompt | Guidance)]
