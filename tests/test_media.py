"""Compositing against the formula, and files read back by another reader."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from processes import children, ends

from text23d.artifact.media import (
    GAP,
    GREY,
    LETTERS,
    WHITE,
    composite_on,
    contact_sheet,
    read_frames,
    turntable,
    upscale,
)
from text23d.errors import UserError
from text23d.spaces import from_picture, to_picture

COLOURS = np.array([[200, 30, 30], [30, 160, 60], [40, 60, 190]], np.uint8)


def plain_frames(count: int, height: int, width: int) -> Iterator[np.ndarray]:
    for number in range(count):
        yield np.broadcast_to(COLOURS[number % 3], (height, width, 3)).copy()


def test_compositing_is_over() -> None:
    generator = torch.Generator().manual_seed(0)
    alpha = torch.rand(2, 1, 5, 4, generator=generator)
    colour = torch.rand(2, 3, 5, 4, generator=generator)
    for background, ground in ((GREY, [0.5] * 3), (WHITE, [1.0] * 3), ((0.2, 0.0, 0.9), [0.2, 0.0, 0.9])):
        over = (colour * alpha).permute(0, 2, 3, 1).numpy() + (1 - alpha[:, 0, ..., None].numpy()) * np.array(ground)
        picture = composite_on(background, *from_picture(to_picture(colour * alpha, alpha)))
        assert picture.shape == (2, 5, 4, 3) and picture.dtype == np.uint8
        assert np.abs(picture / 255 - over).max() < 0.6 / 255


def test_compositing_clamps_what_a_prior_overshoots() -> None:
    premultiplied, alpha = torch.tensor([1.3, -0.2, 0.5]).view(3, 1, 1), torch.full((1, 1, 1), 1.2)
    assert composite_on(WHITE, premultiplied, alpha).tolist() == [[[255, 0, 128]]]


def test_upscaling() -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
    hard = upscale(picture, 12, smooth=False)
    assert hard.shape == (8, 12, 3) and np.array_equal(hard, picture.repeat(4, 0).repeat(4, 1))
    assert upscale(picture, 12).shape == (8, 12, 3) and not np.array_equal(upscale(picture, 12), hard)


def test_contact_sheet_places_every_picture(tmp_path: Path) -> None:
    pictures = list(plain_frames(3, 32, 48))
    path = tmp_path / "sheet.png"
    contact_sheet([("a red car", pictures), ("a label too long " * 20, pictures[:2])], path, ["front", "side", "back"])
    sheet = imageio.imread(path)
    strip = LETTERS + 2 * GAP
    assert sheet.shape == (strip + 2 * (strip + 32 + GAP), GAP + 3 * (48 + GAP), 3)
    for row, count in ((0, 3), (1, 2)):
        for column in range(count):
            y, x = strip + row * (strip + 32 + GAP) + strip, GAP + column * (48 + GAP)
            assert np.array_equal(sheet[y : y + 32, x : x + 48], pictures[column])
    assert (sheet[:strip].min(axis=(0, 2)) < 100).any(), "the columns are labelled"
    assert (sheet[strip : 2 * strip].min(axis=(0, 2)) < 100).any(), "the rows are labelled"
    assert (sheet[:, -GAP:] == 255).all(), "a label that is too long is cut"
    assert os.listdir(tmp_path) == ["sheet.png"]


def test_a_row_of_a_contact_sheet_is_as_high_as_its_pictures(tmp_path: Path) -> None:
    high, low = next(iter(plain_frames(1, 32, 16))), next(iter(plain_frames(1, 8, 48)))
    contact_sheet([("high", [high]), ("low", [low]), ("none", [])], tmp_path / "sheet.png")
    sheet, strip = imageio.imread(tmp_path / "sheet.png"), LETTERS + 2 * GAP
    assert sheet.shape[:2] == (GAP + 3 * (strip + GAP) + 32 + 8, 48 + 2 * GAP)
    first = GAP + strip
    second = first + 32 + GAP + strip
    assert np.array_equal(sheet[first : first + 32, GAP : GAP + 16], high)
    assert np.array_equal(sheet[second : second + 8, GAP : GAP + 48], low)


def test_contact_sheet_needs_pictures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no picture"):
        contact_sheet([("empty", [])], tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="uint8"):
        contact_sheet([("floats", [np.zeros((4, 4, 3))])], tmp_path / "sheet.png")


def test_turntable_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "turn.mp4"
    assert turntable(plain_frames(12, 48, 64), path, fps=24) == 12
    frames, data = imageio.imread(path, plugin="FFMPEG"), imageio.immeta(path, plugin="FFMPEG")
    assert data["size"] == (64, 48) and data["fps"] == 24 and data["codec"] == "h264"
    assert frames.shape == (12, 48, 64, 3) and data["pix_fmt"].startswith("yuv420p") and "bt709" in data["pix_fmt"]
    for number, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - COLOURS[number % 3]).max() <= 6


@pytest.mark.parametrize("folder", ["-y", "http:x", "pipe:1", "100%d", "zwei Wörter", "赤い車", "a'b\"c", "concat:a|b"])
def test_a_turntable_lies_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.chdir(tmp_path)
    turntable(plain_frames(2, 32, 32), Path(folder) / "turn.mp4")
    assert len(read_frames(Path(folder) / "turn.mp4")) == 2 and os.listdir(folder) == ["turn.mp4"]


ENDLESS = """
import sys, time
import numpy as np
from text23d.artifact.media import turntable
def frames():
    yield np.zeros((32, 32, 3), np.uint8)
    yield np.zeros((32, 32, 3), np.uint8)
    print("begun", flush=True)
    time.sleep(600)
turntable(frames(), sys.argv[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_ffmpeg_ends_with_the_process_that_feeds_it(tmp_path: Path) -> None:
    """Killed, so that it can tell nobody."""
    command = [sys.executable, "-c", ENDLESS, str(tmp_path / "turn.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "begun\n"
        (child,) = children(parent.pid)
        parent.kill()
    assert ends(child)
    for part in tmp_path.iterdir():
        os.utime(part, (0, 0))
    turntable(plain_frames(2, 32, 32), tmp_path / "turn.mp4")
    assert os.listdir(tmp_path) == ["turn.mp4"]


def test_turntable_streams(tmp_path: Path) -> None:
    """A frame is asked for only after the last one has gone to the encoder: none is kept."""
    import weakref

    alive: list[weakref.ref[np.ndarray]] = []

    def frames() -> Iterator[np.ndarray]:
        for frame in plain_frames(20, 32, 32):
            assert sum(ref() is not None for ref in alive) <= 2
            alive.append(weakref.ref(frame))
            yield frame

    assert turntable(frames(), tmp_path / "turn.mp4") == 20


def test_turntable_refuses_what_would_be_resized(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"100 x 64 pixels: .*divisible by 16; choose 96 x 64"):
        turntable(plain_frames(2, 64, 100), tmp_path / "turn.mp4")
    with pytest.raises(UserError, match="no frame"):
        turntable([], tmp_path / "turn.mp4")
    assert os.listdir(tmp_path) == []


def test_a_turntable_that_breaks_off_leaves_the_old_one(tmp_path: Path) -> None:
    def breaking() -> Iterator[np.ndarray]:
        yield from plain_frames(3, 32, 32)
        raise RuntimeError("the renderer failed")

    def resizing() -> Iterator[np.ndarray]:
        yield from plain_frames(3, 32, 32)
        yield from plain_frames(1, 48, 32)

    path = tmp_path / "turn.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="the renderer failed"):
        turntable(breaking(), path)
    with pytest.raises(ValueError, match="frame 3"):
        turntable(resizing(), path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["turn.mp4"]


def test_an_encoder_that_stops_early_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        turntable(plain_frames(3, 32, 32), tmp_path / "taken" / "turn.mp4")
    import resource

    generator = np.random.default_rng(0)
    noise = (generator.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(60))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"turn\.mp4"):
            turntable(noise, tmp_path / "turn.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["taken"]


def test_ffmpeg_that_ends_early_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As on a full disk, on which it says more than a person wants to know."""
    early = tmp_path / "ffmpeg"
    early.write_text("#!/bin/sh\nexit 0\n")
    early.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(early))
    frames = [np.zeros((256, 256, 3), np.uint8)] * 40
    with pytest.raises(UserError, match=r"ffmpeg ended before frame \d+ of the video: free some space") as raised:
        turntable(frames, tmp_path / "turn.mp4")
    assert "\n" not in str(raised.value) and list(tmp_path.iterdir()) == [early] and capfd.readouterr() == ("", "")
