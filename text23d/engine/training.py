"""Training of a prior or a judge: steps until it is done, its state saved whole, resumed exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from text23d.engine.ranks import ALONE, Ranks
from text23d.engine.signals import undisturbed
from text23d.errors import Interrupted, UserError
from text23d.files import load_tensors, save_tensors
from text23d.settings import NonNegative, read

SAVE_EVERY = 120.0
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Progress(Protocol):
    """Told after each example that is made and each step that is taken, of which there is a loss."""

    def __call__(self, what: str, done: int, total: int, loss: float | None = None) -> None: ...


def unheard(what: str, done: int, total: int, loss: float | None = None) -> None:
    """For a training that nobody watches."""


class Trainee(Protocol):
    """What is trained, as one explicit state: a step is a function of it, the seed and the step's batch.

    modules    what its file holds, by name; the first is what the optimiser changes
    optimiser  AdamW, whose moments the file holds by the names of their parameters
    step       steps taken; seconds: spent on them
    """

    optimiser: torch.optim.AdamW
    seconds: float

    @property
    def modules(self) -> Mapping[str, nn.Module]: ...

    @property
    def step(self) -> int: ...

    @property
    def done(self) -> bool: ...

    def facts(self) -> dict[str, Any]:
        """What is no tensor, as JSON."""
        ...

    def restore(self, facts: Mapping[str, Any]) -> None:
        """The inverse of `facts`. Raises UserError for those of another training."""
        ...

    def accumulate(self, batch: Any, own: slice = slice(None)) -> float:
        """Compute the gradient, which is no part of the state, and return the loss: of the examples `own` of the batch,
        as parts of sums that are the whole batch's. Raises Diverged if the loss is not finite."""
        ...

    def advance(self, batch: Any) -> None:
        """Take the step."""
        ...


def train(
    state: Trainee,
    batch: Callable[[int], Any],
    checkpoint: Path,
    report: Callable[[float], None],
    minutes: float = math.inf,
    ranks: Ranks = ALONE,
) -> None:
    """Train until the state is done or `minutes` are over. batch: of a step; report: called with each step's loss.
    ranks: those that share each batch, and begin from the state of the first, which alone saves it.

    The state is saved every SAVE_EVERY seconds and at the end, also when interrupted: a signal that comes while a step
    is taken waits until it is. Raises Interrupted with what to do then, and Diverged where the loss is not finite.
    """
    if not ranks.alone:
        tensors, facts = contents(state)
        begin = ranks.spread({"tensors": tensors, "facts": facts})
        if not ranks.first:
            adopt(state, begin["tensors"], begin["facts"])
    start = saved = time.monotonic()
    before, whole = state.seconds, True
    try:
        while not state.done:
            with ranks.together():
                if ranks.any(time.monotonic() - start >= 60 * minutes):
                    break
                examples = batch(state.step)
                loss = accumulate(state, examples, ranks)
                with undisturbed():
                    whole = False
                    state.advance(examples)
                    state.seconds = before + time.monotonic() - start
                    whole = True
            report(loss)
            if ranks.first and time.monotonic() - saved > SAVE_EVERY:
                save(checkpoint, state)
                saved = time.monotonic()
    except KeyboardInterrupt:
        message = f"interrupted after {state.step} steps, which {checkpoint} holds: the same command goes on"
        raise Interrupted(message) from None
    finally:
        if whole and ranks.first:  # half a step must not replace the last whole state
            save(checkpoint, state)


def accumulate(state: Trainee, batch: Any, ranks: Ranks) -> float:
    """Each rank's part of the gradient and of the loss, added up."""
    if ranks.alone:
        return state.accumulate(batch)
    own = ranks.share(len(batch[0]), "examples of a batch")
    loss = state.accumulate(batch, slice(own.start, own.stop))
    return ranks.add_gradients(1.0, [parameter for _, parameter in trained(state)], loss)


def save(path: Path, state: Trainee) -> None:
    """Write the whole state. Raises UserError if that fails."""
    tensors, facts = contents(state)
    save_tensors(path, tensors, "training", facts)


def contents(state: Trainee) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The whole state, as named tensors and what is none."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in state.modules.items():
        tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
    for name, parameter in trained(state):
        for moment, value in state.optimiser.state.get(parameter, {}).items():
            tensors[f"adam.{moment}.{name}"] = value
    return tensors, {**state.facts(), "seconds": state.seconds}


@dataclass(frozen=True)
class Spent:
    """What every training's file says."""

    seconds: NonNegative


def load(path: Path, state: Trainee) -> None:
    """Go on where a file left off. Raises UserError where it is missing, damaged or of another training."""
    tensors, facts = load_tensors(path, "training")
    advice = "choose another folder, or remove the file to begin anew"
    try:
        adopt(state, tensors, facts)
    except (UserError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{path} holds another training, or is damaged ({reason}): {advice}") from error


def adopt(state: Trainee, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """The inverse of `contents`. Raises UserError, ValueError or RuntimeError for those of another training."""
    spent = read(Spent, facts)
    state.restore(facts)
    for name, module in state.modules.items():
        own = {key.removeprefix(f"{name}."): v for key, v in tensors.items() if key.startswith(f"{name}.")}
        module.load_state_dict(own)
    load_moments(state, tensors)
    state.seconds = spent.seconds


def load_moments(state: Trainee, tensors: Mapping[str, Tensor]) -> None:
    """What AdamW remembers of each parameter; nothing before the first step. Raises ValueError for other shapes."""
    for name, parameter in trained(state):
        own = {moment: tensors[key] for moment in MOMENTS if (key := f"adam.{moment}.{name}") in tensors}
        if own and (len(own) < len(MOMENTS) or any(own[each].shape != parameter.shape for each in MOMENTS[1:])):
            raise ValueError(f"the moments of {name} do not fit it")
        # Steps are counted on the CPU, moments lie beside their parameter.
        state.optimiser.state[parameter] = {m: v if m == "step" else v.to(parameter) for m, v in own.items()}


def trained(state: Trainee) -> Iterator[tuple[str, nn.Parameter]]:
    """What the optimiser changes, by name."""
    return next(iter(state.modules.values())).named_parameters()
