"""The queue of a server: whose turn it is, who holds a job, and what becomes of one whose worker is gone."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import awaited
from sqlalchemy.engine import URL

from text23d.service.server import schema, store
from text23d.service.server.order import Waiting, order
from text23d.service.server.schema import Claim, Full, Limits
from text23d.service.server.store import Store

ASKED = {"seed": 0, "iterations": None, "guidance": None}


@pytest.fixture
def make(database: URL) -> Iterator[Callable[..., Store]]:
    """Opens the test's database; on each kind of them."""
    opened: list[Store] = []

    def made(**limits: int) -> Store:
        opened.append(Store(database, Limits(**limits)))
        return opened[-1]

    yield made
    for each in opened:
        each.engine.dispose()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which tests set forward."""
    now = [1000.0]
    monkeypatch.setattr(store.time, "time", lambda: now[0])
    return now


def submit(queue: Store, client: str = "anna", count: int = 1) -> list[str]:
    return [queue.submit(client, "object", "a red car", ASKED) for _ in range(count)]


def ticks(clock: list[float], count: int) -> Iterator[None]:
    for _ in range(count):
        clock[0] += 1
        yield


def claimed(queue: Store, worker: str = "w") -> Claim:
    claim = queue.claim(worker)
    assert claim is not None
    return claim


def row(queue: Store, identity: str) -> dict[str, Any]:
    found = queue.get(identity)
    assert found is not None
    return found


def state(queue: Store, identity: str) -> str:
    return str(row(queue, identity)["state"])


JOBS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 50)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(JOBS, st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9)))
def test_turns_are_taken_as_a_person_would_deal_them(jobs: list[tuple[str, int]], served: dict[str, int]) -> None:
    """Against dealing by hand: round after round, each client that has a job left gives its oldest."""
    waiting = [Waiting(f"{number:03}", client, created) for number, (client, created) in enumerate(jobs)]
    hands = {name: sorted((each.created, each.id) for each in waiting if each.client == name) for name in "abcd"}
    expected: list[str] = []
    while any(hands.values()):
        row = [(served.get(name, 0), *hands[name].pop(0)) for name in "abcd" if hands[name]]
        expected += [identity for _, _, identity in sorted(row)]
    assert [each.id for each in order(waiting, {name: float(at) for name, at in served.items()})] == expected


def test_nobody_waits_for_anothers_hundred(make: Callable[..., Store]) -> None:
    queue = make(queued=500, unfinished=500, running=500)
    many = submit(queue, "greedy", 100)
    (one,) = submit(queue, "modest")
    assert queue.positions()[one] == 2 and queue.positions()[many[99]] == 101
    assert [claimed(queue).id for _ in range(3)] == [many[0], one, many[1]]


def test_limits_of_the_queue_and_of_a_client(make: Callable[..., Store]) -> None:
    queue = make(queued=5, unfinished=3, running=1)
    submit(queue, "anna", 3)
    with pytest.raises(Full, match="you have 3 jobs that are not done") as raised:
        submit(queue, "anna")
    assert raised.value.seconds > 0
    submit(queue, "ben", 2)
    with pytest.raises(Full, match="5 jobs are waiting"):
        submit(queue, "cleo")
    assert {claimed(queue).id for _ in range(2)} and queue.claim("w") is None, "one of each client runs, and no more"


def test_a_job_is_held_by_one_worker_until_its_lease_runs_out(make: Callable[..., Store], clock: list[float]) -> None:
    queue = make()
    (job,) = submit(queue)
    first = claimed(queue, "one")
    assert queue.claim("two") is None and queue.renew(first, 3, 1.0) is False
    clock[0] += schema.LEASE - 1
    assert queue.claim("two") is None
    clock[0] += 2
    second = claimed(queue, "two")
    assert second.id == job and second.holder != first.holder and second.spent == 1.0
    assert queue.renew(first, 9, 9.0) is None, "it has lost the job, and learns it"
    assert not queue.end(first, "done"), "and cannot end it"
    queue.give_back(first)
    queue.retry(first, "no")
    assert state(queue, job) == "running" and row(queue, job)["iteration"] == 3
    assert queue.end(second, "done") and not queue.end(second, "done") and queue.claim("three") is None


def at_once(*deeds: Callable[[], Any]) -> list[Any]:
    """What each gives, in a thread of its own; they begin together. Raises what one of them does."""
    begin = threading.Barrier(len(deeds))

    def done(deed: Callable[[], Any]) -> Any:
        begin.wait(30)
        return deed()

    with ThreadPoolExecutor(len(deeds)) as threads:
        return [each.result() for each in [threads.submit(done, deed) for deed in deeds]]


def test_many_workers_never_claim_the_same_job(make: Callable[..., Store]) -> None:
    """Nor fail where they open a database that is empty, and each makes its tables."""
    limits = {"queued": 500, "unfinished": 500, "running": 500}
    queues = at_once(*[partial(make, **limits)] * 6)
    jobs = submit(queues[0], count=24)

    def work(own: Store) -> list[str]:
        return [claim.id for claim in iter(partial(own.claim, "w"), None)]

    found = at_once(*[partial(work, queue) for queue in queues])
    assert sorted(chain(*found)) == sorted(jobs)


def test_limits_hold_for_those_who_come_at_the_same_time(make: Callable[..., Store]) -> None:
    queues = [make(queued=9, unfinished=5, running=2) for _ in range(6)]
    assert sum(at_once(*[partial(submitted, queue, "anna", 2) for queue in queues])) == 5
    assert sum(at_once(*[partial(submitted, queue, "ben", 2) for queue in queues])) == 4, "all that wait are nine"
    claims = [each for each in at_once(*[partial(queue.claim, "w") for queue in queues]) if each]
    assert len(claims) == 4 and Counter(row(queues[0], each.id)["client"] for each in claims) == {"anna": 2, "ben": 2}


def submitted(queue: Store, client: str, count: int) -> int:
    """How many of so many jobs were taken."""
    taken = 0
    for _ in range(count):
        with suppress(Full):
            taken += len(submit(queue, client))
    return taken


def test_a_job_ends_once_whatever_is_done_to_it_at_the_same_time(make: Callable[..., Store]) -> None:
    """Workers that make, give back, fail and lose what they hold, and clients that cancel."""
    queues = [make(queued=500, unfinished=500, running=500, retries=50) for _ in range(5)]
    jobs, over = submit(queues[0], count=30), threading.Event()

    def work(queue: Store, seed: int) -> list[str]:
        rng, ended = random.Random(seed), list[str]()
        while not over.is_set():
            if (claim := queue.claim(f"w{seed}")) is None:
                over.wait(0.02)
                continue
            queue.renew(claim, rng.randrange(9), 1.0)
            deed = rng.choice((queue.end, queue.end, queue.give_back, queue.abandon))
            if deed == queue.abandon:
                queue.abandon(f"w{seed}")
            elif deed == queue.give_back:
                queue.give_back(claim)
            elif queue.end(claim, "done"):
                ended.append(claim.id)
        return ended

    def cancel(queue: Store) -> list[str]:
        for job in jobs[::3]:
            queue.cancel(job)
        awaited(lambda: queue.changed(math.inf) == [] or None, 30)
        over.set()
        return []

    ended = Counter(
        chain(*at_once(partial(cancel, queues[4]), *[partial(work, queues[number], number) for number in range(4)]))
    )
    states = {job: state(queues[0], job) for job in jobs}
    assert set(ended.values()) == {1} and ended.keys() == {job for job in jobs if states[job] == "done"}
    others = {job: states[job] for job in jobs if states[job] != "done"}
    assert set(others.values()) <= {"cancelled"} and others.keys() <= set(jobs[::3]), others


def test_a_job_that_kills_its_workers_is_given_up_but_not_one_that_comes_further(
    make: Callable[..., Store], clock: list[float]
) -> None:
    queue = make(retries=2)
    (job,) = submit(queue)
    for iteration in range(1, 9):
        queue.renew(claimed(queue, f"w{iteration}"), iteration, 1.0)
        queue.abandon(f"w{iteration}")
        assert state(queue, job) == "queued"
    for number in range(3):
        assert state(queue, job) == "queued"
        claimed(queue, f"v{number}")
        queue.abandon(f"v{number}")
    assert state(queue, job) == "failed" and "died 3 times" in row(queue, job)["failure"]


def test_an_attempt_that_failed_is_tried_again_later_and_not_for_ever(
    make: Callable[..., Store], clock: list[float]
) -> None:
    queue = make(retries=2)
    (job,) = submit(queue)
    waits = []
    while state(queue, job) == "queued":
        before = clock[0]
        while (claim := queue.claim("w")) is None:
            clock[0] += 0.5
        waits.append(clock[0] - before)
        queue.retry(claim, "it was killed by signal 9")
    assert len(waits) == 3 and waits[0] == 0 < waits[1] < waits[2]
    assert row(queue, job)["failure"] == "it was killed by signal 9 (attempt 3, and the last)"


def test_what_was_interrupted_by_the_server_is_no_failure(make: Callable[..., Store]) -> None:
    queue = make(retries=0)
    (job,) = submit(queue)
    for _ in range(5):
        queue.give_back(claimed(queue))
    assert state(queue, job) == "queued" and row(queue, job)["attempts"] == 0


def test_cancelling(make: Callable[..., Store], clock: list[float]) -> None:
    queue = make()
    waits, runs, dies = (submit(queue)[0] for _ in ticks(clock, 3))
    claims = {claim.id: claim for claim in (claimed(queue), claimed(queue))}
    assert set(claims) == {waits, runs}
    queue.cancel(dies)
    assert state(queue, dies) == "cancelled", "at once: nobody makes it"
    queue.cancel(runs)
    assert state(queue, runs) == "running" and queue.renew(claims[runs], 0, 0) is True, "its worker is told"
    assert not queue.delete(runs) and queue.delete(dies) and queue.get(dies) is None
    clock[0] += schema.LEASE + 1
    assert state(queue, runs) == "running"
    assert claimed(queue).id == waits and state(queue, runs) == "cancelled", "its worker died before it could stop"
    queue.cancel(runs)
    assert state(queue, runs) == "cancelled"


def test_pages_show_each_job_once_the_newest_first(make: Callable[..., Store]) -> None:
    queue = make(queued=99, unfinished=99)
    jobs = submit(queue, count=7) + submit(queue, "ben", 2)
    seen, after = list[str](), None
    while page := queue.page(None, None, after, 2):
        seen += [each["id"] for each in page]
        after = seen[-1]
    assert Counter(seen) == Counter(jobs) and [row(queue, each)["created"] for each in seen] == sorted(
        (row(queue, each)["created"] for each in jobs),
        reverse=True,
    )
    assert [each["client"] for each in queue.page("ben", None, None, 9)] == ["ben", "ben"]
    assert queue.page(None, "done", None, 9) == [] == queue.page(None, None, "0" * 16, 9)


def test_a_database_outlives_its_process(make: Callable[..., Store]) -> None:
    (job,) = submit(make())
    again = make()
    found = row(again, job)
    assert found["prompt"] == "a red car" and claimed(again).settings == ASKED
    assert again.counts() == {"queued": 0, "running": 1, "done": 0, "failed": 0, "cancelled": 0}
    assert replace(Limits(), queued=1).queued == 1 and time.time() > found["created"]
