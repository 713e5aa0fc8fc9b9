"""What a pretrained model takes of memory: its weights before they are read, and its layers before they compute."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from text23d.memory import expect_room
from text23d.prior.hub.index import Index, header, weights
from text23d.prior.wrappers.codec import Codec


class Peak(TorchDispatchMode):
    """Inside, most: the largest number of bytes that tensors made since then had at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        given = {id(each.untyped_storage()) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        shared = any(each.alias_info is not None for each in func._schema.returns)
        for each in tree_leaves(found):
            if isinstance(each, Tensor) and not shared and id(each.untyped_storage()) not in given:
                self._add(each.untyped_storage())
        return found

    def _add(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.most = max(self.most, self.live)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.live -= size


def peak(compute: Callable[[Callable[..., Tensor]], object]) -> int:
    """Bytes at once in compute(make), of which nothing is computed: each layer only tells the shape of its result.

    make(*shape, device=..., dtype=...): tensors to begin with. Weights do not count.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), Peak() as mode:
        compute(torch.empty)
    return mode.most


@dataclass(frozen=True)
class Footprint:
    """Bytes that one example takes in the network, and one picture in the autoencoder, by a rehearsal; see `peak`.

    D        the network as a denoiser, told c(1)
    shape    [C, *S] of an example
    codec    the autoencoder, on `device`
    home     where the network's weights are as long as it does not compute; None: on `device`, too
    """

    D: Callable[[Tensor, Tensor, Any], Tensor]
    c: Callable[[int], Any]
    shape: tuple[int, ...]
    codec: Codec
    device: torch.device
    home: torch.device | None = None

    @cached_property
    def network(self) -> int:
        """Known only while the network is as it was loaded: hooks that move its weights would move them here, too."""
        where = self.home or self.device

        def evaluate(make: Callable[..., Tensor]) -> None:
            with torch.no_grad():
                self.D(make(1, *self.shape, device=where), make(1, device=where), self.c(1).to(where))

        return peak(evaluate)

    @cached_property
    def encoding(self) -> int:
        """Of a picture whose code has a gradient, there and back."""

        def encode(make: Callable[..., Tensor]) -> None:
            with torch.enable_grad():  # type: ignore[no-untyped-call]
                picture = make(1, 3, *(self.codec.factor * side for side in self.shape[1:]), device=self.device)
                self.codec.encode(picture.requires_grad_()).square().mean().backward()

        return peak(encode)

    @cached_property
    def decoding(self) -> int:
        def decode(make: Callable[..., Tensor]) -> None:
            with torch.no_grad():
                self.codec.decode(make(1, *self.shape, device=self.device))

        return peak(decode)


def elements(index: Index, part: str) -> int:
    """Weights of a part, by the headers of its files."""
    return sum(
        math.prod(each["shape"])
        for path in weights(index, part)
        for name, each in header(path).items()
        if name != "__metadata__"
    )


def expect_weights(index: Index, part: str, dtype: torch.dtype, device: torch.device) -> None:
    """Raises TooLarge where a part's weights do not fit, before they are read."""
    spared = "" if index.parts[part][0] == "transformers" else "prior.memory.offload=true on a GPU, "
    remedy = f"set prior.precision=float16, {spared}or choose a smaller model"
    expect_room(elements(index, part) * dtype.itemsize, device, f"{part} of {index.folder}", remedy)
