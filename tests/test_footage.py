"""Clips that a person brings: every kind, at every rate and size, with and without transparency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from text23d.artifact.footage import read_clip
from text23d.artifact.media import on_white, turntable
from text23d.errors import UserError
from text23d.spaces import from_picture, to_picture

SIDE, FRAMES, RATE = 32, 8, 8.0


def square(step: float = 2.0) -> Tensor:
    """A red square that moves to the right: picture space [F, 4, S, S]."""
    alpha = torch.zeros(FRAMES, 1, SIDE, SIDE)
    for index in range(FRAMES):
        left = 4 + int(step * index)
        alpha[index, :, 10:22, left : left + 8] = 1
    return to_picture(alpha * torch.tensor([0.8, 0.2, 0.4])[:, None, None], alpha)


def levels(x: Tensor) -> np.ndarray:
    premultiplied, alpha = from_picture(x)
    straight = torch.where(alpha > 0, premultiplied / alpha.clamp(min=1e-3), 0)
    return (torch.cat([straight, alpha], 1).movedim(1, -1) * 255).round().byte().numpy()


def write(folder: Path, kind: str) -> Path:
    """The clip as a file of that kind, at 8 frames a second."""
    path, frames = folder / f"clip.{kind}", [Image.fromarray(each) for each in levels(square())]
    if kind == "mp4":
        shown = np.repeat(np.repeat(on_white(square()), 4, 1), 4, 2)
        turntable(shown, path, fps=8)
    elif kind == "folder":
        path.mkdir()
        for index, frame in enumerate(frames):
            frame.save(path / f"frame {index + 5}.png")
        (path / ".hidden").write_text("no picture")
    else:
        options = {"lossless": True} if kind == "webp" else {"disposal": 2} if kind == "gif" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=125, loop=0, **options)
    return path


@pytest.mark.parametrize(
    ("kind", "error"), [("gif", 0.02), ("png", 1e-6), ("webp", 1e-2), ("folder", 1e-6), ("mp4", 0.06)]
)
def test_every_kind_of_clip_is_read_right(kind: str, error: float, tmp_path: Path) -> None:
    """Frame by frame, with their coverage, which a video without transparency has from its plain background."""
    found = read_clip(write(tmp_path, kind), "constraint.clip", RATE, 100)
    side = found.shape[-1] // SIDE
    small = torch.nn.functional.avg_pool2d(found, side)
    assert found.dtype == torch.float32 and small.shape == (FRAMES, 4, SIDE, SIDE)
    assert (small - square()).abs().mean() < error
    assert len(read_clip(tmp_path / ("clip." + kind), "constraint.clip", RATE, 3)) == 3


@pytest.mark.parametrize(
    ("rate", "expected"), [(4.0, [1, 3, 5, 7]), (16.0, [i // 2 for i in range(16)]), (6.0, [0, 2, 3, 4, 6, 7])]
)
def test_other_rates_show_what_is_shown_at_the_middle_of_each_frame(
    rate: float, expected: list[int], tmp_path: Path
) -> None:
    found = read_clip(write(tmp_path, "png"), "constraint.clip", rate, 100)
    torch.testing.assert_close(found, square()[expected], atol=1e-5, rtol=0)


def test_frames_of_a_folder_are_in_the_order_of_their_numbers_whatever_their_kind(tmp_path: Path) -> None:
    """16-bit, grey, palette and CMYK pictures, and 10 after 9."""
    shades: dict[str, tuple[str, Any]] = {
        "1.png": ("I;16", 65535),
        "2.png": ("L", 204),
        "9.png": ("P", 3),
        "10.tif": ("CMYK", (0, 0, 0, 102)),
    }
    for name, (mode, value) in shades.items():
        Image.new(mode, (16, 16), value).save(tmp_path / name)
    palette = Image.new("P", (16, 16), 3)
    palette.putpalette([0, 0, 0, 50, 50, 50, 100, 100, 100, 153, 153, 153])
    palette.save(tmp_path / "9.png")
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    clear.save(tmp_path / "11.png")
    x = read_clip(tmp_path, "constraint.clip", RATE, 100)
    assert x.shape == (5, 4, 16, 16)
    shown = (x[:4, 0, 8, 8] + 1) / 2
    torch.testing.assert_close(shown, torch.tensor([1.0, 0.8, 0.6, 0.6]), atol=0.01, rtol=0)
    assert torch.equal(x[:, 3, 0, 0], torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0]))


def test_what_is_no_clip_is_told_in_one_line(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 40)
    (tmp_path / "broken.gif").write_bytes(b"GIF89a no picture")
    turntable([np.zeros((32, 64, 3), np.uint8)] * 3, tmp_path / "wide.mp4", fps=8)
    for name, frames in (("noisy", noise), ("mixed", [noise[0, :16, :16], noise[0]])):
        (tmp_path / name).mkdir()
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(tmp_path / name / f"{index}.png")
    for name, problem in {
        "nowhere.mp4": "no such file or folder; expected a video",
        "empty": "the folder holds no picture",
        "broken.mp4": "cannot be read",
        "broken.gif": "cannot be read",
        "wide.mp4": "its frames are 64 x 32; expected a square",
        "noisy": "its border is not of one colour",
        "mixed": "1.png has 32 pixels along a side, 0.png 16; expected frames of one size",
    }.items():
        with pytest.raises(UserError, match=f"constraint.clip={tmp_path / name}: .*{problem}") as raised:
            read_clip(tmp_path / name, "constraint.clip", RATE, 100)
        assert "\n" not in str(raised.value)
