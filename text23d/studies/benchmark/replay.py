"""An iteration of the main job, on a prior of random weights, that can be taken again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from text23d.cameras import orbit
from text23d.contracts import Stage, unwatched
from text23d.engine.build import Parts, build_run
from text23d.engine.loop import advance
from text23d.errors import UserError
from text23d.method.algorithm import Algorithm1
from text23d.method.schedule import Constant
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.unet import UNet, UNetConfig
from text23d.representation.nerf import Nerf
from text23d.settings import checked
from text23d.studies.benchmark.timing import Call
from text23d.worlds.objects.caption import words


@contextmanager
def random_prior(network: Mapping[str, Any]) -> Iterator[Path]:
    """The file of a prior of this network (see `UNetConfig`) that reads every word and has learned nothing.

    Raises UserError for a network that cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config: UNetConfig = checked({**network, "words": len(words())}, UNetConfig, "network")
        unet = UNet(config).requires_grad_(False)
        for parameter in unet.parameters():  # the last layers are made of zeros
            parameter.add_(0.02 * torch.randn(parameter.shape))
    table = {name: [0.02, 40.0] for name in ("sigma", "rms_full", "rms_views", "rms_none")}
    prior = builtin.BuiltinPrior(edm.Preconditioned(unet), Vocabulary(words()), table, (64, 64), {"images": 0})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "prior.safetensors"
        builtin.save(path, prior)
        yield path


class Replay:
    """A run that can take any of its iterations, again and again, from one state: that after a first one.

    untrained: the field as the run begins with it.
    """

    def __init__(self, cfg: Mapping[str, Any], device: torch.device, weights: Path) -> None:
        """Raises UserError as `engine.build.build_run`, for a prior that has no weights of ours, and for pictures."""
        if "weights" not in cfg["prior"]:
            raise UserError("this benchmark runs prior=builtin; for Stable Diffusion's network say stable_diffusion=2")
        self._state, self._parts = build_run({**cfg, "prior": {**cfg["prior"], "weights": str(weights)}}, device)
        if not isinstance(self._state.phi, Nerf):
            raise UserError("this benchmark measures the rendering of a NeRF: choose representation=nerf")
        self.untrained = deepcopy(self._state.phi)
        self.untrained.refresh_occupancy(0)
        advance(self._state, self._parts)
        self._first = self._state.snapshot()

    @property
    def device(self) -> torch.device:
        return self._parts.device

    @property
    def iterations(self) -> int:
        return self._parts.recipe.iterations

    @property
    def views(self) -> int:
        """Renderings of an iteration."""
        return self._parts.recipe.views

    @property
    def typical(self) -> int:
        """An iteration at the update's full size that does not look where matter is."""
        index = 3 * self.iterations // 5
        return min(index + (index % self.untrained.refresh == 0), self.iterations - 1)

    @property
    def size(self) -> int:
        """Side of the update's rendering in that iteration."""
        return self._parts.update_shape(self.typical / max(1, self.iterations - 1))[-1]

    @property
    def is_algorithm1(self) -> bool:
        return isinstance(self._parts.recipe.method_at(0.0), Algorithm1)

    def spread(self, count: int) -> list[int]:
        """Iterations evenly along the run, the first and the last among them."""
        return sorted({round(part * (self.iterations - 1) / max(1, count - 1)) for part in range(count)})

    def restore(self) -> None:
        """Go back to the state after the first iteration."""
        self._state.restore(self._first)

    def iterate(self, index: int, stage: Stage = unwatched) -> dict[str, Any]:
        """The run's iteration `index`; its figures."""
        return self._advance(self._parts, index, stage)

    def iterate_at(self, views: int, size: int) -> dict[str, Any]:
        """The typical iteration with so many views, and with the update at `size`."""
        recipe = replace(self._parts.recipe, views=views, size=Constant(size))
        return self._advance(replace(self._parts, recipe=recipe, share=range(views)), self.typical)

    def _advance(self, parts: Parts, index: int, stage: Stage = unwatched) -> dict[str, Any]:
        self._state.iteration = index
        return advance(self._state, parts, stage)

    def network(self) -> Call:
        """D' on the pictures of an iteration."""
        guide = self._parts.guide.conditioned_on(orbit(self.views).to(self.device))
        x = torch.randn(self.views, 4, *guide.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        sigma = torch.tensor(1.0, device=self.device)

        @torch.no_grad()
        def call() -> object:
            return guide.D_aux(x, sigma)

        return call
