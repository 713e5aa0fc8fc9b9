"""From a prompt to a video, end to end: tiny runs of the real thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import optimise

from text23d.artifact.media import on_white, read_frames
from text23d.compose import compose
from text23d.contracts import unwatched
from text23d.engine.build import Parts, build_run
from text23d.engine.state import RunState
from text23d.errors import UserError
from text23d.method.schedule import LogLinear, Staggered
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.unet import UNet, UNetConfig
from text23d.tasks.video import STRIP, VIDEO, VideoTask
from text23d.worlds.clips.world import Clips

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior of clips that knows every word and has learned nothing."""
    words = Clips().words
    small: dict[str, Any] = {"widths": (16,), "blocks": 1, "attention": (False,), "embedding": 32, "text_width": 32}
    config = UNetConfig(len(words), patch=(2, 8, 8), dimensions=3, features=0, sketch=1, **small)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(config).requires_grad_(False)
        for parameter in unet.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    table = {name: [0.02, 40.0] for name in ("sigma", "rms_full", "rms_views", "rms_none")}
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    builtin.save(path, builtin.BuiltinPrior(edm.Preconditioned(unet), Vocabulary(words), table, (8, 32, 32), {}))
    return path


def made(prior: Path, *overrides: str) -> tuple[RunState, Parts]:
    base = ["prompt='a red car turning left'", "representation=video", f"prior.weights='{prior}'"]
    fast = ["prior.precision=float32", "method.iterations=3", "representation.frames=20"]
    return build_run(compose("config", [*base, *fast, *overrides]), CPU)


def finished(prior: Path, *overrides: str) -> tuple[RunState, Parts]:
    state, parts = made(prior, *overrides)
    assert len(list(optimise(state, parts))) == 3
    return state, parts


def test_a_video_is_exported_frame_by_frame(prior: Path, tmp_path: Path) -> None:
    state, parts = finished(prior, "representation.rate=5")
    exported = parts.task.export(state.result(), parts.prompt, tmp_path, unwatched, lambda *_: None)
    facts = {"file": VIDEO, "frames": 20, "rate": 5.0, "seconds": 4.0, "wrap": False}
    assert exported.summary == {"video": facts}
    frames = read_frames(tmp_path / VIDEO)
    assert len(frames) == 20 and frames[0].shape == (256, 256, 3)
    assert iio.immeta(tmp_path / VIDEO, plugin="FFMPEG")["fps"] == 5.0
    assert isinstance(parts.task, VideoTask)
    expected = on_white(parts.task.frames(state.result()))
    small = np.stack(frames).reshape(20, 32, 8, 32, 8, 3).mean((2, 4))
    assert np.abs(small - expected).mean() < 12, "but for the compression"
    strip = Image.open(tmp_path / STRIP)
    assert strip.width == 4 + 8 * 100 and strip.height > 3 * 96, "20 frames are three rows of up to eight"
    assert parts.task.preview(state.result()).shape == (1, 4, 128, 512)


def test_the_same_seed_gives_the_same_video_and_another_one_another(prior: Path) -> None:
    first, again, other = (finished(prior, f"seed={seed}")[0].result().values for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_windows_and_evaluations_grow_with_the_length(prior: Path) -> None:
    """To 16 times: the number of windows, and so time, and what a run holds are linear in it."""
    for times in (1, 4, 16):
        state, parts = made(prior, f"representation.frames={64 * times}")
        held = sum(parameter.numel() for parameter in state.phi.parameters())
        assert (parts.recipe.views, held) == (16 * times, 64 * times * 4 * 32 * 32)


def test_a_loop_has_windows_over_its_end(prior: Path) -> None:
    _, parts = made(prior, "representation.wrap=true")
    starts = torch.cat([parts.views.sample(5, torch.Generator().manual_seed(i)).start[:, 0] for i in range(40)])
    assert set(starts.tolist()) == set(range(20))
    _, parts = made(prior)
    starts = torch.cat([parts.views.sample(5, torch.Generator().manual_seed(i)).start[:, 0] for i in range(40)])
    assert set(starts.tolist()) == set(range(13))


def test_prompts_change_over_time(prior: Path) -> None:
    """Each window is told what holds in its seconds; the judge sees windows of one prompt alone."""
    said = "regions={0-1.25: a red car turning left, 1.25-2.5: a red car hopping}"
    state, parts = finished(prior, said)
    assert [caption.motion for caption in parts.guide.captions] == ["turning left", "hopping"]
    shown = parts.task.judged(state.result(), (8, 32, 32))
    assert [len(each) for each in shown] == [1, 1]
    c, _ = parts.guide.conditions(parts.views.sample(5, torch.Generator().manual_seed(0)))
    assert len(c) == 5 and set(c.weight.unique().tolist()) > {1.0}


@pytest.mark.parametrize("method", ["langevin", "multidiffusion"])
def test_a_video_goes_on_from_a_given_clip(prior: Path, tmp_path: Path, method: str) -> None:
    """Its first frames are those of the clip, at the video's rate and size, to the bit."""
    levels = np.zeros((6, 64, 64, 4), np.uint8)
    for index in range(6):
        levels[index, 16:32, 4 * index : 4 * index + 16] = (200, 50, 0, 255)
    frames = [Image.fromarray(each) for each in levels]
    frames[0].save(tmp_path / "clip.png", save_all=True, append_images=frames[1:], duration=125)
    grid = ["method=multidiffusion", "views=grid", "views.stride=[4,32,32]", "method.views=4"]
    state, parts = finished(
        prior,
        "constraint=first_clip",
        f"constraint.clip='{tmp_path / 'clip.png'}'",
        *(grid if method != "langevin" else []),
    )
    assert isinstance(parts.task, VideoTask)
    shown = parts.task.frames(state.result())
    alpha = torch.from_numpy(levels[..., 3] / 255).reshape(6, 32, 2, 32, 2).mean((2, 4))
    torch.testing.assert_close((shown[:6, 3].double() + 1) / 2, alpha, atol=1e-5, rtol=0)
    assert (shown[6:, 3] + 1).abs().min() > 0
    given = parts.views.sample(parts.recipe.views, torch.Generator().manual_seed(3))
    target = parts.constraint.project(torch.zeros(len(given), 4, 8, 32, 32), given)
    for row, start in zip(target, given.start[:, 0].tolist(), strict=True):
        known = max(0, 6 - start)
        assert torch.equal(row[:, :known], shown[start : start + known].transpose(0, 1))
        assert not row[:, known:].any()


def test_a_queue_of_windows_begins_one_after_another(prior: Path) -> None:
    """FIFO: the first window is done when the last one begins, with a delay of 1."""
    course = Staggered(LogLinear(40.0, 0.1), 1.0)
    stream = torch.Generator()
    for progress, expected in ((0.0, [40.0] * 5), (0.5, [0.1, None, 2.0, None, 40.0]), (1.0, [0.1] * 5)):
        found = course.draw(progress, 5, stream).tolist()
        for a, b in zip(found, expected, strict=True):
            assert b is None or a == pytest.approx(b)
        assert found == sorted(found)
    ring = Staggered(LogLinear(40.0, 0.1), 1.0, ring=True).draw(0.5, 8, stream).tolist()
    assert ring == ring[:1] + ring[:0:-1], "the same either way round"
    assert ring[0] == pytest.approx(0.1) and ring[2] == pytest.approx(2.0) and ring[4] == pytest.approx(40.0)
    grid = ["method=multidiffusion", "method/sigma=queue", "views=grid", "views.stride=[4,32,32]", "method.views=4"]
    state, _ = finished(prior, *grid)
    assert state.result().values.isfinite().all()


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["representation.frames=0"], r"representation\.frames=0: expected"),
        (["representation.frames=1000000"], r"representation\.frames=1000000: expected"),
        (["representation.frames=7"], "make it longer"),
        (["representation.rate=0"], r"representation\.rate=0: expected"),
        (["regions={0-1: a red car}"], r"regions end at 1 of 2\.5 seconds"),
        (["regions={0-1: a red car, 0.5-2.5: a tree}"], "regions overlap"),
        (["regions={0-1: a red car, 1-2.5: a red cart}"], "does not know the word 'cart'"),
        (["prompt='a red car flying'"], "does not know the word 'flying'"),
        (["constraint=first_clip", "constraint.clip=nowhere.mp4"], r"constraint\.clip=nowhere\.mp4: no such file"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(prior: Path, overrides: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem) as raised:
        made(prior, *overrides)
    assert "\n" not in str(raised.value)


def test_a_clip_as_long_as_the_video_leaves_nothing_to_make(prior: Path, tmp_path: Path) -> None:
    for index in range(20):
        Image.new("RGBA", (16, 16), (index, 0, 0, 0)).save(tmp_path / f"{index}.png")
    with pytest.raises(UserError, match="it has 20 frames or more at 8 a second, and the video 20: nothing is left"):
        made(prior, "constraint=first_clip", f"constraint.clip='{tmp_path}'")
