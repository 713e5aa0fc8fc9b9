"""How a pretrained network computes: compiled, or with its weights elsewhere until they are used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from text23d.errors import UserError
from text23d.settings import Flag


@dataclass(frozen=True)
class Memory:
    """compile: the network is compiled by torch.compile, which takes minutes at first. offload: its weights are in the
    CPU's memory, and each layer's on the GPU while it computes: slower, for as little memory as the largest layer.

    Attention has no setting: torch computes it in blocks, without the matrix of all pairs (see HUB.md).
    """

    compile: Flag = False
    offload: Flag = False

    def home(self, device: torch.device) -> torch.device:
        """Where the network is loaded to. Raises UserError for a device that has no other memory than the CPU's."""
        if self.offload and device.type == "cpu":
            raise UserError("prior.memory.offload=true: the device is the CPU, where weights are anyway; leave it out")
        return torch.device("cpu") if self.offload else device

    def applied(self, networks: Iterable[Any], footprint: Any) -> None:
        """Change these networks, which are to be used on the footprint's device and are rehearsed before."""
        _ = footprint.network
        for each in networks:
            if self.offload:
                offloaded(each, footprint.device)
            if self.compile:
                each.compile()


def offloaded(network: Any, device: torch.device) -> None:
    """Have each layer's weights on `device` while it computes, and on the CPU otherwise."""
    from accelerate import cpu_offload

    cpu_offload(network, execution_device=device)


AS_IT_IS = Memory()
