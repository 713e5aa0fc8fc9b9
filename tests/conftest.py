"""What several test files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from text23d.kernels import backend


@pytest.fixture(params=["auto", "torch"])
def both_backends(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that uses this runs on the compiled kernels, where they are built, and on their torch twins."""
    before = backend.backend()
    backend.select(request.param)
    yield
    backend.select(before)
