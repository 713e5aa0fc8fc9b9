"""A few kills of the main job, with a fixed seed; `python tests/kill_harness.py kills=100` takes more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kill_harness import NERF, harness, torn
from tiny import NERF as GRID

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds processes by Linux' /proc")


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(tiny_prior: Path, tmp_path: Path) -> None:
    case = ["prompt=a red car", "device=cpu", "stages=1", f"prior.weights={tiny_prior}", *NERF, *GRID]
    counts = harness([[*case, "method.iterations=6"]], 3, 3, tmp_path, aimed=0.6, forked=0.8)
    assert counts.faults == [] and counts.kills == 3, "\n".join(counts.lines())


def test_what_is_not_whole_is_found(tmp_path: Path) -> None:
    """The tests above would pass for readers that read nothing."""
    for name in ("a.png", "a.mp4", "a.json", "a.jsonl", "a.yaml", "nerf.safetensors", "000001.safetensors", "a.glb"):
        (tmp_path / name).write_bytes(b"\x00\x01half of a file")
    assert len(torn(tmp_path)) == 8
