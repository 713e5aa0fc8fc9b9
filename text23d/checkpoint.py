"""The state of what changes, written and read: nested mappings of tensors and JSON values, as one safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors

State = Mapping[str, Any]
"""Names -> tensors, values that JSON holds, or more such mappings."""
KIND, BETWEEN = "state", "/"


def save(path: str | os.PathLike[str], state: State) -> None:
    """Write `state` atomically; names may not contain "/". Raises UserError where that fails."""
    tensors, values = split(state)
    save_tensors(path, tensors, KIND, values)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save` wrote; lists for tuples. Raises UserError where the file is missing, damaged or of another kind."""
    tensors, values = load_tensors(path, KIND)
    try:
        return joined(tensors, values)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is no checkpoint: expected a file that a run of this version wrote") from error


def joined(tensors: Mapping[str, Tensor], values: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `split`: `values` with the tensors in their places. Raises KeyError or TypeError where there are
    none."""
    for name, tensor in tensors.items():
        *folders, leaf = name.split(BETWEEN)
        inside: Any = values
        for folder in folders:
            inside = inside[folder]
        inside[leaf] = tensor
    return values


def split(state: State, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors by their path, and the same mappings without them."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            tensors[prefix + name] = value
        elif isinstance(value, Mapping):
            inside, values[name] = split(value, f"{prefix}{name}{BETWEEN}")
            tensors |= inside
        else:
            values[name] = value
    return tensors, values


def copied(state: State) -> dict[str, Any]:
    """The same with tensors of its own, which do not change as the originals do."""
    return {
        name: value.detach().clone()
        if isinstance(value, Tensor)
        else copied(value)
        if isinstance(value, Mapping)
        else value
        for name, value in state.items()
    }


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The per-parameter state of an optimiser, as "<number>.<name>": moments and steps. Rates and other settings
    are its maker's."""
    return {
        f"{index}.{name}": value
        for index, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


@torch.no_grad()
def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Put what `optimizer_state` gave in the place of the optimiser's state."""
    optimizer.state.clear()
    for index, parameter in enumerate(_parameters(optimizer)):
        prefix = f"{index}."
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if own:
            # Steps are counted on the CPU, moments lie beside their parameter.
            optimizer.state[parameter] = {
                name: value.clone() if name == "step" else value.to(parameter, copy=True) for name, value in own.items()
            }


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
