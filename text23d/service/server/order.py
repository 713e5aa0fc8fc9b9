"""Whose turn it is: one job of each client, then the next of each, so that nobody waits for another's hundred."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Waiting(NamedTuple):
    """A queued job. created: seconds since 1970."""

    id: str
    client: str
    created: float


def order(waiting: Iterable[Waiting], served: Mapping[str, float]) -> list[Waiting]:
    """The jobs in the order in which they begin: round-robin between clients, those first who were `served` (seconds
    since 1970, when a job of theirs last began) the longest ago, and within a client by age.

    `order([a1, a2, b1], {"a": 9.0})`, of clients a and b, is [b1, a1, a2].
    """
    rounds, seen = [], Counter[str]()
    for job in sorted(waiting, key=lambda each: (each.created, each.id)):
        rounds.append((seen[job.client], served.get(job.client, 0.0), job.created, job.id, job))
        seen[job.client] += 1
    return [job for *_, job in sorted(rounds)]
