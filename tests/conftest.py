"""What several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from programs import pytest_configure, pytest_runtest_setup, pytest_terminal_summary  # noqa: F401 (hooks of pytest)

from text23d.judge import network
from text23d.kernels import backend
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.unet import UNet, UNetConfig
from text23d.worlds.objects.caption import words
from text23d.worlds.objects.world import Objects

if TYPE_CHECKING:
    from postgres import Cluster
    from sqlalchemy.engine import URL


LONGEST = (
    *("ranks", "sweep", "export", "evaluation", "run", "compare", "state", "kill", "serve_runs", "posed_views", "api"),
    *("pretrained", "inversion_table", "health", "memory", "training_verbs", "view_browser", "serve_page", "blender"),
    *("image_run", "doctor", "deploy", "serve_fuzz", "gallery", "probes"),
)
"""The files that take longest. They begin first, so that no process is left with one of them in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {f"test_{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(params=["auto", "torch"])
def both_backends(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that uses this runs on the compiled kernels, where they are built, and on their torch twins."""
    before = backend.backend()
    backend.select(request.param)
    yield
    backend.select(before)


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior's file in the shipped one's place, and beside it one of windows: they know every word and have learned
    nothing."""
    folder = tmp_path_factory.mktemp("tiny_prior")
    config = UNetConfig(len(words()), widths=(16,), blocks=1, attention=(False,), embedding=32, text_width=32)
    unlearned(folder / "prior.safetensors", config)
    unlearned(folder / "prior_fine.safetensors", replace(config, given=6))
    return folder / "prior.safetensors"


def unlearned(path: Path, config: UNetConfig) -> None:
    """The file of a prior with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(config).requires_grad_(False)
        for parameter in unet.parameters():  # the last layers are zero when made, and would hide the others
            parameter.add_(0.05 * torch.randn(parameter.shape))
    table = {name: [0.02, 40.0] for name in ("sigma", "rms_full", "rms_views", "rms_none")}
    prior = builtin.BuiltinPrior(edm.Preconditioned(unet), Vocabulary(words()), table, (64, 64), {"images": 48})
    builtin.save(path, prior)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL, for tests that need it."""
    from postgres import running

    with running() as made:
        yield made


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """An empty database, once of each kind."""
    from text23d.service.server.database import sqlite

    if request.param == "sqlite":
        return sqlite(tmp_path / "jobs.sqlite")
    made: URL = request.getfixturevalue("cluster").new()
    return made


@pytest.fixture(scope="session")
def tiny_judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge's file in the shipped one's place: it has every class and has learned nothing."""
    world = Objects()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = network.Classifier(world.heads, world.channels, world.shape)
    seen = {"kind": 0.5, "colour": 0.75}
    judge = network.Judge(classifier.eval(), {"clean": seen, "corrupted": seen})
    path = tmp_path_factory.mktemp("tiny_judge") / "judge.safetensors"
    network.save(path, judge)
    return path
