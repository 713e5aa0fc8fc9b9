"""The gallery: a table and a picture of finished runs, and of what it leaves out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from text23d import gallery
from text23d.artifact.media import turntable
from text23d.compose import compose as compose_run
from text23d.errors import UserError
from text23d.files import write_bytes, write_json
from text23d.paths import conf_dir
from text23d.studies import runs
from text23d.studies.launcher import Job, Outcome

HUES = {"a red car": (200, 20, 20), "a blue mug": (20, 20, 200)}


PLAIN = ("kind_accuracy", "kind_probability", "colour_accuracy", "colour_probability")
PARTS = ("part_accuracy", "part_probability")


def finished(
    folder: Path, prompt: str, seed: int, kind: float, scored: tuple[str, ...] = PLAIN, frames: int = 8, **more: Any
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scores = dict.fromkeys(scored, kind) or None
    summary = {"prompt": prompt, "seed": seed, "score": scores, "seconds": {"total": 10.0 * (seed + 1)}}
    summary |= {"mesh": {"faces": 100}, "peak_memory_mb": 500.0}
    write_json(folder / "summary.json", summary | more)
    hue = HUES.get(prompt, (90, 90, 90))
    turntable([np.full((32, 32, 3), hue, np.uint8)] * frames, folder / "turntable.mp4")


def show(folder: Path, **values: Any) -> None:
    """The verb on runs below `folder`, with these settings."""
    with initialize_config_dir(str(conf_dir() / "gallery"), version_base="1.3"):
        cfg = compose("gallery", ["runs=any", "columns=1", "size=32"])
    changes = OmegaConf.create({"runs": str(folder), **values})
    gallery.run(OmegaConf.merge(cfg, changes))  # type: ignore[arg-type]


def red_pixels(folder: Path, prompt: str = "a red car") -> int:
    pixels = np.asarray(Image.open(folder / "gallery.png").convert("RGB")).astype(int)
    return int((np.abs(pixels - HUES[prompt]).max(-1) < 30).sum())


def test_table_means_and_pictures(tmp_path: Path) -> None:
    finished(tmp_path / "x" / "1", "a red car", 0, 1.0)
    finished(tmp_path / "2", "a blue mug", 1, 0.5)
    show(tmp_path)
    written = json.loads((tmp_path / "gallery.json").read_text())
    assert written["mean"] == {**dict.fromkeys(PLAIN, 0.75), "seconds": 15.0, "peak_memory_mb": 500.0}
    assert [run["prompt"] for run in written["runs"]] == ["a blue mug", "a red car"] and written["skipped"] == []
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
    show(tmp_path)
    assert json.loads((tmp_path / "gallery.json").read_text())["mean"]["kind_accuracy"] == 1.0
    assert "| a blue mug | 0 | - | - | - | - |" in (tmp_path / "gallery.md").read_text()


def test_parts_have_columns_where_some_run_was_asked_for_them(tmp_path: Path) -> None:
    finished(tmp_path / "1", "a red car", 0, 1.0, (*PLAIN, *PARTS))
    finished(tmp_path / "2", "a blue mug", 0, 0.5)
    show(tmp_path)
    head, _, mug, car, mean = (tmp_path / "gallery.md").read_text().splitlines()
    assert head.split(" | ")[4:8] == ["colour right", "P(colour)", "part's colour right", "P(part's colour)"]
    assert "| 0 | 0.50 | 0.50 | 0.50 | 0.50 | - | - | 10 |" in mug and "| 1.00 | 1.00 | 1.00 | 10 |" in car
    assert "| 0.75 | 0.75 | 0.75 | 0.75 | 1.00 | 1.00 | 10 |" in mean
    assert len({line.count("|") for line in (head, mug, car, mean)}) == 1
    written = json.loads((tmp_path / "gallery.json").read_text())["mean"]
    assert written["part_accuracy"] == 1.0 and written["kind_accuracy"] == 0.75


def test_memory_that_the_system_does_not_tell(tmp_path: Path) -> None:
    finished(tmp_path / "1", "a red car", 0, 1.0, peak_memory_mb=None)
    show(tmp_path)
    assert "| 10 | - | 100 |" in (tmp_path / "gallery.md").read_text()


def test_a_turntable_shorter_than_the_row(tmp_path: Path) -> None:
    finished(tmp_path / "1", "a red car", 0, 1.0, frames=2)
    show(tmp_path)
    assert red_pixels(tmp_path) == pytest.approx(4 * 32 * 32, rel=0.05)


def test_views_are_a_number(tmp_path: Path) -> None:
    finished(tmp_path / "1", "a red car", 0, 1.0)
    show(tmp_path, views=3)
    assert red_pixels(tmp_path) == pytest.approx(3 * 32 * 32, rel=0.05)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "binary": lambda run: write_bytes(run / "summary.json", b"\x93NUMPY\xff"),
    "torn": lambda run: write_bytes(run / "summary.json", b'{"prompt": "a red'),
    "a list": lambda run: write_bytes(run / "summary.json", b"[1, 2]"),
    "a number for a prompt": lambda run: edit(run, prompt=5),
    "half of an emoji": lambda run: edit(run, prompt="half \ud83d"),
    "no seconds": lambda run: edit(run, seconds={"total": None}),
    "another score": lambda run: edit(run, score=[1]),
    "not a number": lambda run: edit(run, peak_memory_mb=math.nan),
    "faces in words": lambda run: edit(run, mesh={"faces": "many"}),
}


def edit(run: Path, **changes: Any) -> None:
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | changes))


@pytest.mark.parametrize("name", DAMAGE)
def test_a_run_that_cannot_be_read_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    finished(tmp_path / "1", "a red car", 0, 1.0)
    finished(tmp_path / "2", "a blue mug", 0, 1.0)
    DAMAGE[name](tmp_path / "2")
    show(tmp_path)
    out, err = capsys.readouterr()
    assert "a red car" in out and "a blue mug" not in out and red_pixels(tmp_path) > 1000
    assert err.startswith("text23d: left out: ") and str(tmp_path / "2" / "summary.json") in err
    assert err.count("\n") == 1 and any(said in err for said in ("is damaged", "is not JSON", "expected a JSON object"))
    assert json.loads((tmp_path / "gallery.json").read_text())["skipped"] == [err.strip().removeprefix("text23d: ")]
    assert (tmp_path / "gallery.md").read_text().splitlines()[-1].startswith("- left out: ")


def test_a_run_without_pictures_is_listed_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that made none, one whose video is damaged, and a picture that is gone."""
    finished(tmp_path / "1", "a red car", 0, 1.0)
    for number, name in enumerate(("minimal", "torn", "picture")):
        finished(tmp_path / name, "a blue mug", number, 1.0)
    (tmp_path / "minimal" / "turntable.mp4").unlink()
    summary = json.loads((tmp_path / "minimal" / "summary.json").read_text())
    del summary["mesh"]
    write_json(tmp_path / "minimal" / "summary.json", summary)
    (tmp_path / "torn" / "turntable.mp4").write_bytes(b"no video")
    edit(tmp_path / "picture", image={"file": "image.png", "size": 64})
    show(tmp_path)
    out, err = capsys.readouterr()
    assert out.count("| a blue mug |") == 3 and "| a blue mug | 0 | 1.00 | 1.00 | 1.00 | 1.00 | 10 | 500 | - |" in out
    assert [line.split(": ")[1] for line in err.splitlines()] == ["no picture"] * 3
    for name, said in (("minimal", "has no turntable.mp4"), ("torn", "cannot read the video"), ("picture", "no such")):
        assert any(str(tmp_path / name) in line and said in line for line in err.splitlines())
    assert red_pixels(tmp_path) == pytest.approx(4 * 32 * 32, rel=0.05) and red_pixels(tmp_path, "a blue mug") == 0


def test_no_picture_at_all_still_gives_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path / "1", "a red car", 0, 1.0)
    (tmp_path / "1" / "turntable.mp4").unlink()
    show(tmp_path)
    assert "| a red car |" in capsys.readouterr().out and not (tmp_path / "gallery.png").exists()


@pytest.mark.parametrize(
    ("prompt", "cell"),
    [
        ("a | b", r"a \| b"),
        ("two\nlines\n| x |", r"two lines \| x \|"),
        ("*bold* _it_ `code` [a](b) <i> #1 ~x~", r"\*bold\* \_it\_ \`code\` \[a\](b) \<i\> \#1 \~x\~"),
        ("back\\slash", r"back\\slash"),
        ("見 🚗\tü", "見 🚗 ü"),
        ("", ""),
    ],
)
def test_prompts_of_any_text_are_one_cell(tmp_path: Path, prompt: str, cell: str) -> None:
    finished(tmp_path / "1", prompt, 0, 1.0)
    show(tmp_path)
    lines = (tmp_path / "gallery.md").read_text().splitlines()
    assert len(lines) == 4 and lines[2].startswith(f"| {cell} | 0 | 1.00 |")
    assert json.loads((tmp_path / "gallery.json").read_text())["runs"][0]["prompt"] == prompt
    assert Image.open(tmp_path / "gallery.png").width > 4 * 32


@pytest.mark.parametrize("name", ["a b", "a,b", "a=b", "50%", "(x)", "Öl", "it's", "猫", "{x}", "[1]"])
def test_folders_have_any_name(tmp_path: Path, name: str) -> None:
    finished(tmp_path / name / "1", "a red car", 0, 1.0)
    show(tmp_path / name, out=str(tmp_path / "out" / name))
    assert red_pixels(tmp_path / "out" / name) > 1000


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"views": 0}, "views=0: expected a whole number, 1 to 360"),
        ({"views": "many"}, "views=many: expected a whole number"),
        ({"columns": True}, "columns=true: expected a whole number"),
        ({"size": math.nan}, "size=nan: expected a whole number, 8 to 2048"),
        ({"size": 1.5}, "size=1.5: expected a whole number"),
        ({"size": 1e300}, "size=1e"),
        ({"runs": None}, "runs=null: expected the name of a file or folder"),
        ({"runs": ""}, "runs=: expected the name"),
        ({"out": [1]}, r"out=\[1\]: expected the name of a file or folder or null"),
        ({"size": 2048, "views": 360}, "1 runs of views=360, size=2048: the picture would have more than 256 million"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    finished(tmp_path / "1", "a red car", 0, 1.0)
    with pytest.raises(UserError, match=said) as raised:
        show(tmp_path, **values)
    assert "\n" not in str(raised.value)


def test_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"no finished run below {folder}: expected folders with a summary.json"):
            show(folder)
    write_bytes(tmp_path / "1" / "summary.json", b"{")
    with pytest.raises(
        UserError, match=r"no finished run below .* \(1 cannot be read; the first is left out: .*1/summ"
    ):
        show(tmp_path)


def test_media_have_a_table_each_and_files_to_play_beside_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is made first, by the settings that the list names; what is there is not made again; a list of
    other settings is told."""
    asked: list[Job] = []

    def launched(jobs: list[Job], *_: Any) -> list[Outcome]:
        asked.extend(jobs)
        for job in jobs:
            said = dict(each.split("=", 1) for each in job.overrides)
            prompt, medium = said["prompt"].strip("'"), said["representation"]
            if medium == "audio":
                continue
            scores = {"panorama": "scene_accuracy", "video": "motion_accuracy"}[medium]
            finished(job.folder, prompt, 0, 0.5, (scores,), 16, **{medium: {"file": ""}})
            Image.new("RGB", (512, 64), (9, 99, 199)).save(job.folder / "panorama.png")
            (job.folder / "turntable.mp4").rename(job.folder / "video.mp4")
        return [Outcome(each, "it broke" if "audio" in each.folder.name else None) for each in jobs]

    monkeypatch.setattr(runs, "launch", launched)
    runs_, out = tmp_path / "runs", tmp_path / "out"
    media = ("panorama", "video", "audio")
    make = [[f"prompt='a {medium}'", f"representation={medium}"] for medium in media]
    values = {"out": str(out), "make": make, "keep": True, "columns": 1}
    show(runs_, **values)
    told = (out / "gallery.md").read_text()
    assert told.index("scene right") < told.index("motion right") and told.count("mean of 1") == 2
    assert "- a-audio-0 failed: it broke" in told
    assert "- to see: [a panorama, seed 0](<a-panorama-0.png>)" in told
    assert "- to play: [a video, seed 0](<a-video-0.mp4>)" in told
    assert (out / "a-video-0.mp4").read_bytes() == (runs_ / "a-video-0" / "video.mp4").read_bytes()
    shown = np.asarray(Image.open(out / "gallery.png").convert("RGB"))
    assert (shown == (9, 99, 199)).all(-1).sum() == (4 * 36 - 4) * 18, "all of it, as wide as four views"
    assert [job.folder.name for job in asked] == ["a-panorama-0", "a-video-0", "a-audio-0"]
    asked.clear()
    show(runs_, **values)
    assert [job.folder.name for job in asked] == ["a-audio-0"]
    with pytest.raises(UserError, match="holds results of another settings"):
        show(runs_, **{**values, "make": [[*make[2], "method.views=3"]]})


def test_the_list_of_media_is_one_that_runs_understand() -> None:
    with initialize_config_dir(str(conf_dir() / "gallery"), version_base="1.3"):
        cfg = compose("gallery", ["list=media"])
    kinds = []
    for own in cfg.make:
        made = compose_run("config", [str(each) for each in own])
        kinds.append(made["task"]["_target_"].split(".")[2])
    assert set(kinds) == {"panorama", "video", "audio"} and cfg.keep


def test_sounds_are_seen_and_where_to_play_them_is_said(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a bell (1)"
    finished(run, "a slow bell melody", 3, 1.0, frames=1, audio={"file": "audio.wav"})
    hue = (200, 100, 50)
    Image.fromarray(np.full((256, 900, 3), hue, np.uint8)).save(run / "audio.png")
    show(tmp_path / "runs", out=str(tmp_path / "out"))
    shown = np.asarray(Image.open(tmp_path / "out" / "gallery.png").convert("RGB"))
    assert (shown == hue).all(-1).sum() == 32 * (4 * 36 - 4), "as wide as four views and the gaps between"
    told = (tmp_path / "out" / "gallery.md").read_text()
    assert "- to play: [a slow bell melody, seed 3](<../runs/a bell (1)/audio.wav>)" in told
