"""Several processes that make one object: each takes its share of an iteration's views, and all take the same step.

Every rank has the whole state, and all have the same. Rank 0 alone writes, prints, judges and exports.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn

from text23d.checkpoint import State, joined, split
from text23d.engine.presence import Presence
from text23d.engine.signals import expected, undisturbed
from text23d.errors import Diverged, RankLost, UserError
from text23d.memory import is_out_of_memory

Made = TypeVar("Made")
FAULTS = (FloatingPointError, Diverged, MemoryError, KeyboardInterrupt)
"""What one rank meets, and all act upon; MemoryError stands for all that `is_out_of_memory`."""


@dataclass(eq=False)
class Ranks:
    """The ranks of a run as one of them sees them: the `rank`-th of `size`, and the `local`-th on its machine.

    Exchanges are collective: all ranks make the same ones in the same order. Each raises RankLost where another rank
    has ended, or was not heard of for SILENCE seconds; and where another is in one of FAULTS, that fault: see
    `together`. exchanged: bytes that were summed or broadcast so far. agreed: the last fault that all ranks met.
    signals: that came since a rank was lost. followed: which state of the first the others have; asked: which changes
    of it; see `following`.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    presence: Presence | None = None
    exchanged: int = 0
    agreed: BaseException | None = None
    signals: Sequence[int] = ()
    followed: object = None
    asked: list[object] = field(default_factory=list)

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and tells."""
        return self.rank == 0

    def share(self, total: int, what: str = "views") -> range:
        """The part of `total` views or examples that is this rank's; parts differ by one at most. Raises UserError
        where there is not one for each rank."""
        if total < self.size:
            raise UserError(
                f"{self.size} ranks share {total} {what}: expected at least one for each; start fewer ranks, or ask "
                f"for more {what}"
            )
        return range(total * self.rank // self.size, total * (self.rank + 1) // self.size)

    def device(self, device: torch.device) -> torch.device:
        """This rank's own of its machine's GPUs. Raises UserError where there are fewer than ranks."""
        if self.alone or device.type != "cuda":
            return device
        if self.local >= torch.cuda.device_count():
            raise UserError(
                f"rank {self.rank} has no GPU of its own, for torch sees {torch.cuda.device_count()}: start one rank "
                "for each, or use device=cpu"
            )
        torch.cuda.set_device(self.local)
        return torch.device("cuda", self.local)

    def add_gradients(self, weight: float, parameters: Sequence[nn.Parameter], value: float) -> float:
        """In place of the gradients of `parameters`, the sum over the ranks of `weight` times each one's; returns the
        same sum of `value`. A parameter that has no gradient on any rank stays without."""
        grads = [None if each.grad is None else weight * each.grad for each in parameters]
        facts = torch.tensor([weight * value, *(float(grad is not None) for grad in grads)])
        dense = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]
        facts, *sums = self.sums([facts.to(dense[0]), *dense])
        value, *have = facts.tolist()
        for parameter, has, total in zip(parameters, have, sums, strict=True):
            parameter.grad = total if has else None
        return value

    def sums(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sum over the ranks of each tensor, in one exchange. Shapes, types and devices are the same on all."""
        if self.alone:
            return list(tensors)
        flat = torch.cat([each.flatten() for each in tensors])
        self._exchange(dist.all_reduce, flat)
        parts = flat.split([each.numel() for each in tensors])
        return [part.view_as(each).to(each.dtype) for part, each in zip(parts, tensors, strict=True)]

    def means(self, weight: float, values: Sequence[float]) -> list[float]:
        """For each number the sum over the ranks of `weight` times theirs."""
        if self.alone:
            return list(values)
        found: list[float] = self.sums([weight * torch.tensor(values, dtype=torch.float64)])[0].tolist()
        return found

    def gathered(self, rows: Tensor, total: int) -> Tensor:
        """All rows [total, ...], in the order of views, from each rank's rows [len(share), ...]."""
        if self.alone:
            return rows
        share, whole = self.share(total), rows.new_zeros(total, *rows.shape[1:])
        whole[share.start : share.stop] = rows
        return self.sums([whole])[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on one rank at least. All ranks are here when it returns."""
        return self.means(1.0, [float(flag)]) > [0.0]

    def word(self, said: int = 0) -> int:
        """What rank 0 says, on every rank."""
        return int(self.means(1.0, [float(said if self.first else 0)])[0])

    def broadcast(self, data: bytes = b"") -> bytes:
        """The data of rank 0, on every rank."""
        if self.alone:
            return data
        (size,) = self.means(1.0, [float(len(data) if self.first else 0)])
        found = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.first and data else None
        found = torch.empty(int(size), dtype=torch.uint8) if found is None else found
        self._exchange(dist.broadcast, found, src=0)
        return found.numpy().tobytes()

    def spread(self, state: State) -> State:
        """The state of rank 0, on every rank; the others' may be anything."""
        if self.alone:
            return state
        tensors, values = split(state) if self.first else ({}, {})
        said = self.broadcast(json.dumps(values).encode())
        # safetensors refuses tensors that share memory.
        held = self.broadcast(save({name: each.cpu().clone().contiguous() for name, each in tensors.items()}))
        return state if self.first else joined(load(held), json.loads(said))

    def in_turn(self, make: Callable[[], Made]) -> Made:
        """What each rank makes, or finds made: rank 0 makes it before the others look."""
        made = make() if self.first else None
        self.any(False)
        return make() if made is None else made

    def release(self) -> None:
        """Say on rank 0 that it has had its last exchange: before, another that closes its connections would break
        it."""
        if self.presence is not None and self.first:
            self.presence.release()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Where one of FAULTS ends the block on one rank, it ends on all: the others raise the same at their next
        exchange, which does not take place. Without it they would wait for the rank that left."""
        try:
            try:
                yield
            except BaseException as error:
                state = fault(error)
                if state and not (self.alone or error is self.agreed):
                    self.agreed = error
                    self._states(state)
                raise
        except RankLost:
            self.signals = expected()  # torchrun ends the others: they have to keep what they have before
            raise

    def _exchange(self, collective: Callable[..., Any], tensor: Tensor, **how: Any) -> None:
        """A collective on `tensor`, in place. Before it all ranks say that they are well: one in a fault takes no part
        in it, and the others must not begin."""
        with undisturbed():
            states = self._states(0)
            if not states.any():
                self._wait(collective(tensor, async_op=True, **how), tensor.is_cuda)
                self.exchanged += tensor.numel() * tensor.element_size()
        if states.any():
            rank = int(states.argmax())
            self.agreed = FAULTS[int(states[rank]) - 1](f"rank {rank} of {self.size} could not go on")
            raise self.agreed

    def _states(self, own: int) -> Tensor:
        """What each rank is in: 0 where it is well, else 1 + the index of one of FAULTS."""
        states = torch.zeros(self.size, dtype=torch.int32)
        states[self.rank] = own
        with undisturbed():
            self._wait(dist.all_reduce(states, async_op=True), False)
        return states

    def _wait(self, work: Any, on_gpu: bool) -> None:
        """Until an exchange is done. Raises RankLost where it cannot be."""
        assert self.presence is not None, "ranks that are not alone watch each other"
        try:
            while not (_done_on_gpu(work) if on_gpu else _done(work)):
                self.presence.require_all()
        except RuntimeError as error:
            reason = str(error).splitlines()[0].partition("] ")[2].partition(". ")[0]
            raise RankLost(
                f"another of the {self.size} ranks has ended ({reason}), and so rank {self.rank} does: start all of "
                "them again"
            ) from error


ALONE = Ranks()


def fault(error: BaseException) -> int:
    """1 + the index of the one of FAULTS that an error is; 0: of none."""
    if isinstance(error, RankLost):
        return 0
    if is_out_of_memory(error):
        return 1 + FAULTS.index(MemoryError)
    return next((number for number, kind in enumerate(FAULTS, 1) if isinstance(error, kind)), 0)


def _done(work: Any, seconds: float = 1.0) -> bool:
    """Wait so long for an exchange between processors. Raises RuntimeError where it failed."""
    try:
        work.wait(timedelta(seconds=seconds))
    except RuntimeError:
        if work.is_completed():
            raise
        return False
    return True


def _done_on_gpu(work: Any, seconds: float = 1.0) -> bool:
    """The same for one between GPUs, where `wait` with a timeout would give up for good."""
    until = time.monotonic() + seconds
    while not work.is_completed():
        if time.monotonic() > until:
            return False
        time.sleep(1e-4)
    work.wait()
    return True
