"""How the ranks of a run meet, and how they part: by the environment that torchrun sets, RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR and MASTER_PORT."""

from __future__ import annotations

import atexit
import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist

from text23d.company import shared
from text23d.engine.presence import Presence
from text23d.engine.ranks import ALONE, Ranks
from text23d.errors import RankError, RankLost, UserError
from text23d.loopback import is_loopback
from text23d.settings import Count, Natural, read

MEETING = 60.0
"""Seconds in which all ranks have to come."""
PATIENCE = 10.0
"""Seconds in which rank 0 may tell what another rank met, too."""
STUCK = timedelta(hours=1)
"""For one exchange of ranks that are all alive."""


@dataclass(frozen=True)
class Environment:
    """What torchrun says to each process that it starts."""

    rank: Natural
    world_size: Count
    master_addr: str
    master_port: Count
    local_rank: Natural = 0

    @staticmethod
    def found() -> Environment | None:
        """None where one process was started. Raises UserError for values that are none."""
        if not shared():
            return None
        given = {name: os.environ.get(name.upper()) for name in Environment.__dataclass_fields__}
        missing = [name.upper() for name in ("master_addr", "master_port") if given[name] is None]
        if missing:
            raise UserError(f"RANK={given['rank']}, but no {' and no '.join(missing)}: start several ranks by torchrun")
        numbers = {name: _number(value) for name, value in given.items() if value is not None}
        try:
            environment = read(Environment, numbers)
        except UserError as error:
            raise UserError(f"of the environment of several ranks, {error}; start them by torchrun") from error
        if environment.rank >= environment.world_size:
            raise UserError(f"RANK={environment.rank} of WORLD_SIZE={environment.world_size}: expected a lower number")
        return environment


def _number(value: str) -> int | str:
    return int(value) if value.isdecimal() else value


@contextmanager
def meeting() -> Iterator[Ranks]:
    """The ranks that were started together; ALONE for a single process.

    Raises UserError where they do not meet. What ends one ends all, and one of them tells: rank 0, unless it is lost or
    has met nothing itself. The others leave by SystemExit.
    """
    environment = Environment.found()
    if environment is None:
        yield ALONE
        return
    ranks, presence = met(environment)
    try:
        yield ranks
    except BaseException as error:
        parting(ranks, presence, error)
    else:
        ranks.release()
        if not ranks.first:
            presence.wait_for_release()
        dist.destroy_process_group()
    finally:
        presence.close()


def met(own: Environment) -> tuple[Ranks, Presence]:
    """Raises UserError where the others do not come."""
    keep_to_this_machine(own.master_addr)
    try:
        where = f"env://?rank={own.rank}&world_size={own.world_size}"
        store, _, _ = next(dist.rendezvous(where, timeout=timedelta(seconds=MEETING)))
        presence = Presence(dist.PrefixStore("text23d", store), own.rank, own.world_size, MEETING)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=own.rank, world_size=own.world_size, timeout=STUCK)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"rank {own.rank} of {own.world_size} did not meet the others at {own.master_addr}:{own.master_port} "
            f"within {MEETING:.0f} s ({str(error).splitlines()[0][:120]}): start all of them, or free that port"
        ) from error
    return Ranks(own.rank, own.world_size, own.local_rank, presence), presence


def keep_to_this_machine(address: str) -> None:
    """Ranks that meet on this machine listen to it alone, unless GLOO_SOCKET_IFNAME says otherwise."""
    if is_loopback(address):
        loopback = {name for _, name in socket.if_nameindex()} & {"lo", "lo0"}
        if loopback:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback.pop())


def parting(ranks: Ranks, presence: Presence, error: BaseException) -> NoReturn:
    """Raises `error` on the rank that is to tell it, and SystemExit on the others."""
    if ranks.first:
        quiet = not presence.tell() and isinstance(error, RankLost)
    else:
        wait_for_the_first(ranks, presence, error)
        quiet = isinstance(error, KeyboardInterrupt) or not presence.tell()
    if isinstance(error, RankLost):
        atexit.register(_end)  # an exchange with a rank that does not answer cannot be taken back, nor waited for
    else:
        dist.destroy_process_group()
    if quiet:
        raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2) from error
    if isinstance(error, UserError) and not (ranks.first or isinstance(error, RankError)):
        raise RankError(f"rank {ranks.rank} of {ranks.size}: {error}") from error
    raise error


def wait_for_the_first(ranks: Ranks, presence: Presence, error: BaseException) -> None:
    """Until rank 0 has told why all end: without end for what it met, too, as it may have much to save; for PATIENCE
    for what it may meet. A second signal, or the first after a rank was lost, ends the wait."""
    until = math.inf if ranks.agreed in list(chain(error)) else time.monotonic() + PATIENCE
    while not (presence.told() or presence.lost() == 0 or ranks.signals or time.monotonic() > until):
        time.sleep(1.0)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _end() -> None:
    """End the process without waiting for anything."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)
