"""The gallery: a table and a picture of finished runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from text23d import gallery
from text23d.artifact.media import turntable
from text23d.errors import UserError

HUES = {"a red car": (200, 20, 20), "a blue mug": (20, 20, 200)}


PLAIN = ("kind_accuracy", "kind_probability", "colour_accuracy", "colour_probability")
PARTS = ("part_accuracy", "part_probability")


def finished(
    folder: Path, prompt: str, seed: int, kind: float, scored: tuple[str, ...] = PLAIN, frames: int = 8
) -> None:
    folder.mkdir(parents=True)
    scores = dict.fromkeys(scored, kind) or None
    summary = {"prompt": prompt, "seed": seed, "score": scores, "seconds": {"total": 10.0 * (seed + 1)}}
    summary |= {"mesh": {"faces": 100}, "peak_memory_mb": 500.0}
    (folder / "summary.json").write_text(json.dumps(summary))
    turntable([np.full((32, 32, 3), HUES[prompt], np.uint8)] * frames, folder / "turntable.mp4")


def settings(runs: Path, **others: object) -> DictConfig:
    return OmegaConf.create({"runs": str(runs), "out": None, "views": 4, "columns": 1, "size": 32, **others})


def test_table_means_and_pictures(tmp_path: Path) -> None:
    finished(tmp_path / "x" / "1", "a red car", 0, 1.0)
    finished(tmp_path / "2", "a blue mug", 1, 0.5)
    gallery.run(settings(tmp_path))
    written = json.loads((tmp_path / "gallery.json").read_text())
    assert written["mean"] == {**dict.fromkeys(PLAIN, 0.75), "seconds": 15.0, "peak_memory_mb": 500.0}
    assert [run["prompt"] for run in written["runs"]] == ["a blue mug", "a red car"]
    table = (tmp_path / "gallery.md").read_text().splitlines()
    assert len(table) == 5
    assert table[0] == "| prompt | seed | kind right | P(kind) | colour right | P(colour) | seconds | peak MB | faces |"
    assert all(line.count("|") == table[0].count("|") for line in table)
    assert "| a red car | 0 | 1.00 | 1.00 | 1.00 | 1.00 | 10 | 500 | 100 |" in table
    pixels = np.asarray(Image.open(tmp_path / "gallery.png").convert("RGB")).astype(int)
    blue, red = ((np.abs(pixels - HUES[prompt]).max(-1) < 30) for prompt in ("a blue mug", "a red car"))
    for found in (blue, red):  # four pictures of 32 x 32 each, the blue row above the red one
        assert found.sum() == pytest.approx(4 * 32 * 32, rel=0.05)
    assert np.argwhere(blue)[:, 0].max() < np.argwhere(red)[:, 0].min()


def test_a_run_without_a_score_is_left_out_of_the_means(tmp_path: Path) -> None:
    finished(tmp_path / "1", "a red car", 0, 1.0)
    finished(tmp_path / "2", "a blue mug", 0, 0.0, scored=())
    gallery.run(settings(tmp_path))
    assert json.loads((tmp_path / "gallery.json").read_text())["mean"]["kind_accuracy"] == 1.0
    assert "| a blue mug | 0 | - | - | - | - |" in (tmp_path / "gallery.md").read_text()


def test_parts_have_columns_where_some_run_was_asked_for_them(tmp_path: Path) -> None:
    finished(tmp_path / "1", "a red car", 0, 1.0, (*PLAIN, *PARTS))
    finished(tmp_path / "2", "a blue mug", 0, 0.5)
    gallery.run(settings(tmp_path))
    head, _, mug, car, mean = (tmp_path / "gallery.md").read_text().splitlines()
    assert head.split(" | ")[4:8] == ["colour right", "P(colour)", "part's colour right", "P(part's colour)"]
    assert "| 0 | 0.50 | 0.50 | 0.50 | 0.50 | - | - | 10 |" in mug and "| 1.00 | 1.00 | 1.00 | 10 |" in car
    assert "| 0.75 | 0.75 | 0.75 | 0.75 | 1.00 | 1.00 | 10 |" in mean
    assert len({line.count("|") for line in (head, mug, car, mean)}) == 1
    written = json.loads((tmp_path / "gallery.json").read_text())["mean"]
    assert written["part_accuracy"] == 1.0 and written["kind_accuracy"] == 0.75


def test_a_turntable_shorter_than_the_row(tmp_path: Path) -> None:
    finished(tmp_path / "1", "a red car", 0, 1.0, frames=2)
    gallery.run(settings(tmp_path))
    pixels = np.asarray(Image.open(tmp_path / "gallery.png").convert("RGB")).astype(int)
    red = (np.abs(pixels - HUES["a red car"]).max(-1) < 30).sum()
    assert red == pytest.approx(4 * 32 * 32, rel=0.05)


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run below"):
        gallery.run(settings(tmp_path))
    finished(tmp_path / "1", "a red car", 0, 1.0)
    with pytest.raises(UserError, match="views=0"):
        gallery.run(settings(tmp_path, views=0))
    (tmp_path / "1" / "turntable.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="cannot read the video"):
        gallery.run(settings(tmp_path))
    (tmp_path / "1" / "summary.json").write_text('{"prompt": "a red car"')
    with pytest.raises(UserError, match="damaged"):
        gallery.run(settings(tmp_path))
