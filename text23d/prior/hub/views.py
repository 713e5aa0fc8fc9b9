"""What a prompt says of the side that a view sees, and what it then says against the other sides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from text23d.cameras import SIDES, Cameras
from text23d.contracts import Views
from text23d.errors import UserError
from text23d.prior.hub.condition import Said, TextCondition
from text23d.prior.wrappers.guidance import Against
from text23d.settings import Text

PROMPT = "{prompt}"
FRONT, SIDE, BACK, OVERHEAD = SIDES
PAIR = 2
"""Prompts that a view is led away from."""


@dataclass(frozen=True)
class ViewPrompts:
    """The prompt of each side (Poole et al. 2023, section 3.2), where {prompt} stands for that of the run."""

    front: Text = f"{PROMPT}, {FRONT}"
    side: Text = f"{PROMPT}, {SIDE}"
    back: Text = f"{PROMPT}, {BACK}"
    overhead: Text = f"{PROMPT}, {OVERHEAD}"

    def said(self, prompt: str, words: str) -> str:
        """The prompt of a view that says `words` of itself; "" where it says nothing."""
        own = {f"{name} view": template for name, template in vars(self).items()}
        return own.get(words, f"{PROMPT}, {words}" if words else PROMPT).replace(PROMPT, prompt).strip()


PLAIN = ViewPrompts()


# Perp-Neg between the sides


def decay(a: float, b: float, c: float) -> Callable[[Tensor], Tensor]:
    """r -> a exp(-b r) + c, but not below 0."""
    return lambda r: (a * torch.exp(-b * r) + c).clamp(min=0)


AHEAD = decay(4.0, 0.5, -4.0 * math.exp(-0.5))
"""Against front or side by how far a view is from it, between the two: 0 where it is there."""
FRONT_BEHIND, SIDE_BEHIND = decay(1.0, 0.5, 0.967), decay(1.0, 0.5, -math.exp(-0.5))
"""Against front and against side, for views between side and back, by how near they are to the side. The form is that
of Armandpour et al. 2023, section 4.3; its constants are those of the authors' implementation."""


@dataclass(frozen=True)
class Sides:
    """What views between two sides are told (Armandpour et al. 2023, section 4.3).

    share    [B, 4] of each of SIDES in the prompt, rows that sum to 1
    against  [B, 4] weights of each as a prompt of Perp-Neg; two of them are not 0 at most
    """

    share: Tensor
    against: Tensor

    @staticmethod
    def of(cameras: Cameras) -> Sides:
        """From the front to the side a prompt passes from the one to the other, and from the side to the back; from
        above nothing is in between."""
        from_front = ((cameras.azimuth + 180) % 360 - 180).abs() / 90
        ahead, above = from_front < 1, torch.tensor([words == OVERHEAD for words in cameras.words()])
        r = torch.where(ahead, 1 - from_front, 2 - from_front)  # 1 at the front, or at the side; then 0
        none, above = torch.zeros_like(r), above.to(r.device)
        share = torch.where(ahead, torch.stack([r, 1 - r, none, none]), torch.stack([none, r, 1 - r, none]))
        against = torch.where(
            ahead,
            torch.stack([AHEAD(r), AHEAD(1 - r), none, none]),
            torch.stack([FRONT_BEHIND(r), SIDE_BEHIND(r), none, none]),
        )
        overhead = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(r)
        return Sides(torch.where(above, overhead[:, None], share).T, torch.where(above, 0.0, against).T)


def mixed(prompts: dict[str, Said], share: Tensor) -> Said:
    """The prompts of SIDES, each encoded, in these shares [B, 4]: each [B, ...]."""
    found = {}
    for name in prompts[SIDES[0]]:
        all_sides = torch.stack([prompts[side][name] for side in SIDES])
        mean = torch.einsum("bn,n...->b...", share.to(all_sides.device), all_sides.float())
        found[name] = mean.to(all_sides) if all_sides.is_floating_point() else (mean > 0).to(all_sides)  # of a mask
    return found


def between(prompts: dict[str, Said], views: Views) -> Said:
    """What views of an object are told, and under "against" the weights [B, 4] of what they are led away from. Raises
    UserError for views of something else."""
    if not isinstance(views, Cameras):
        raise UserError("prior.between_views: expected an object (representation=nerf); leave it out for a canvas")
    sides = Sides.of(views)
    return {**mixed(prompts, sides.share), "against": sides.against}


def opponents(prompts: dict[str, Said]) -> Sequence[Against]:
    """The prompts of Perp-Neg of views that were told `between`: front and side, which is where the weights are."""

    def opponent(which: int) -> Against:
        def against(c: TextCondition) -> tuple[TextCondition, Tensor]:
            said = {name: each.expand(len(c), *each.shape) for name, each in prompts[SIDES[which]].items()}
            return replace(c, said={**c.said, **said}), c.said["against"][:, which]

        return against

    return [opponent(which) for which in range(PAIR)]
