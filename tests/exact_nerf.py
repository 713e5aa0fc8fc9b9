"""NeRFs whose field is known exactly, for tests of what is made from one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from text23d.files import save_tensors, write_text
from text23d.representation.hashgrid import HashGrid
from text23d.representation.nerf import Nerf

SHIFT = 20.0  # keeps what goes through the ReLU above 0


class Known(nn.Module):
    """In the encoding's place: raw density and colours before the sigmoid, as given, in columns above 0."""

    out_features = 4

    def __init__(self, raw: Callable[[Tensor], Tensor], colour: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.raw, self.colour = raw, colour

    def forward(self, x: Tensor) -> Tensor:
        rgb = self.colour(x).clamp(0.002, 0.998).logit()
        return torch.cat([self.raw(x).clamp(-SHIFT, SHIFT)[:, None], rgb], -1) + SHIFT


def nerf_of(raw: Callable[[Tensor], Tensor], colour: Callable[[Tensor], Tensor]) -> Nerf:
    """A NeRF with density 25 softplus(raw) and that colour; its occupancy has been looked up."""
    nerf = Nerf(Known(raw, colour), hidden=4, blob=0.0)
    nerf.requires_grad_(False)
    for layer, bias in ((nerf.mlp[0], 0.0), (nerf.mlp[2], -SHIFT)):
        assert isinstance(layer, nn.Linear)
        layer.weight.copy_(torch.eye(4))
        layer.bias.fill_(bias)
    nerf.occupancy.update(nerf.density, nerf.dt)
    return nerf


CENTRE, HALF = torch.tensor([0.05, 0.05, -0.05]), torch.tensor([0.35, 0.45, 0.6])


def marked_box() -> Nerf:
    """A tall box off the origin, redder towards its front (-Y), greener towards its top, bluer towards its +X side."""

    def raw(p: Tensor) -> Tensor:
        return -((p - CENTRE).abs() - HALF).amax(-1) / 0.004

    def colour(p: Tensor) -> Tensor:
        x, y, z = ((p - CENTRE) / HALF).unbind(-1)
        return 0.5 + 0.45 * torch.stack([-y, z, x], -1)

    return nerf_of(raw, colour)


REPRESENTATION = {
    "_target_": f"{Nerf.__module__}.{Nerf.__name__}",
    "encoding": {"_target_": f"{HashGrid.__module__}.{HashGrid.__name__}", "levels": 2, "log2_table": 8, "finest": 16},
    "hidden": 4,
}


def leave_run(folder: Path, prompt: str = "an orange ball", density: float = 0.0) -> None:
    """A run's folder with the smallest NeRF there is: a soft ball of one colour, or `density` more in it everywhere."""
    grid = HashGrid(2, 2, 8, 8, 16)
    nerf = Nerf(grid, hidden=4).requires_grad_(False)
    last = nerf.mlp[2]
    assert isinstance(last, nn.Linear)
    grid.table.zero_()
    last.bias.copy_(torch.tensor([density, *torch.tensor([1.0, 0.5, 0.1]).clamp(0.01, 0.99).logit()]))
    nerf.occupancy.update(nerf.density, nerf.dt)
    facts = {"prompt": prompt, "representation": REPRESENTATION}
    write_text(folder / "config.yaml", yaml.safe_dump(facts, sort_keys=False, allow_unicode=True))
    save_tensors(folder / "nerf.safetensors", nerf.state_dict(), "nerf", facts | {"iteration": 1})
