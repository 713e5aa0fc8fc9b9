"""Streams named by (seed, view, step, purpose): the same name gives the same stream, another one another."""

from __future__ import annotations

import itertools
import subprocess
import sys

import torch

from text23d.method.noise import gaussian
from text23d.rng import generator, generators


def draw(seed: int, view: int, step: int, purpose: str, count: int = 4000) -> torch.Tensor:
    return torch.randn(count, generator=generator(seed, view, step, purpose))


def test_the_same_name_is_the_same_stream_in_another_process() -> None:
    code = "import torch, text23d.rng as r; print(torch.randint(10**9, [], generator=r.generator(7, 1, 2, 'e')).item())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(other) == torch.randint(10**9, [], generator=generator(7, 1, 2, "e")).item()


def test_the_global_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    first, state = draw(1, 2, 3, "e"), torch.get_rng_state()
    torch.manual_seed(1)
    torch.testing.assert_close(draw(1, 2, 3, "e"), first, rtol=0, atol=0)
    torch.manual_seed(0)
    draw(1, 2, 3, "e")
    assert bool((torch.get_rng_state() == state).all())


def test_each_part_of_the_name_matters() -> None:
    """Neighbouring names, and names whose numbers could run together, give uncorrelated streams."""
    names = [(0, 0, 0, "e"), (1, 0, 0, "e"), (0, 1, 0, "e"), (0, 0, 1, "e"), (0, 0, 0, "n"), (0, 1, 23, "e")]
    names.append((0, 12, 3, "e"))
    streams = torch.stack([draw(*name) for name in names])
    correlation = torch.corrcoef(streams) - torch.eye(len(names))
    assert correlation.abs().max() < 5 / 4000**0.5


def test_a_run_meets_no_stream_twice() -> None:
    names = itertools.product([0], [0, 1], range(2000), ["inversion", "langevin"])
    first = {torch.randint(2**62, [], generator=generator(*name)).item() for name in names}
    assert len(first) == 8000


def test_processes_with_a_share_of_the_views_draw_what_one_would() -> None:
    """Each view's noise, and its second draw, too, is its own stream's, whoever draws it beside whatever others."""
    like, streams = torch.zeros(4, 2, 3, dtype=torch.float64), generators(5, range(4), 7, "langevin")
    whole = [gaussian(like, streams) for _ in range(2)]
    for share in ([0, 1], [2, 3], [3, 0]):
        own = generators(5, share, 7, "langevin")
        for drawn in whole:
            assert torch.equal(gaussian(like[share], own), drawn[share])
    for view in range(4):
        alone = torch.randn(2, 3, generator=generator(5, view, 7, "langevin"), dtype=torch.float64)
        assert torch.equal(whole[0][view], alone)
    assert len({row.sum().item() for drawn in whole for row in drawn}) == 8
