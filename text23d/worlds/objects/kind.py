"""What a kind of object is: how to build one, and the words a prompt may use about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from text23d.worlds.objects.parts import Part, Rgb


@dataclass(frozen=True)
class Kind:
    """One parametric family.

    build      (rng, albedo of the colour word) -> parts, facing -Y with Z up, in any scale and place.
    parts      word of a part whose colour a prompt may name -> names of the Parts it means; every object has them.
    also       other words for the kind.
    part_also  other words for its parts, each with the word it means, which is what priors are told. They hold for this
               kind, and may be parts of another.
    front      whether one side is clearly the front.
    support    name of the Part that carries what stands on the object; None: nothing does.
    """

    build: Callable[[np.random.Generator, Rgb], list[Part]]
    parts: Mapping[str, tuple[str, ...]]
    also: tuple[str, ...] = ()
    part_also: Mapping[str, str] = field(default_factory=dict)
    front: bool = True
    support: str | None = None
