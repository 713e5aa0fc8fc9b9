"""What a job keeps of its events in its folder: log.txt, and TensorBoard's files."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import IMAGE, settings

from text23d.engine import job
from text23d.engine.events import Event, Finished, Iterated, Looked, Noted, Started
from text23d.engine.folder import claimed
from text23d.engine.recorded import Board, recorded
from text23d.engine.spoken import spoken
from text23d.errors import UserError

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} "


@pytest.fixture
def cfg(tiny_prior: Path) -> dict[str, Any]:
    return settings(tiny_prior, *IMAGE, "stages=2")


def started(folder: Path, done: int = 0) -> Started:
    return Started("a red car", "cpu", "native", folder, 6, done)


def lines(folder: Path) -> list[str]:
    """The log without its times."""
    found = (folder / "log.txt").read_text().splitlines()
    assert all(re.match(STAMP, line) for line in found)
    return [re.sub(STAMP, "", line) for line in found]


def shown(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def test_the_log_says_how_a_run_began_and_ended(cfg: dict[str, Any], tmp_path: Path) -> None:
    job.execute(cfg, tmp_path)
    first, *_, last = lines(tmp_path)
    assert first.startswith("'a red car' on cpu, kernels ") and last.startswith("done in ")
    job.execute(cfg, tmp_path)  # another run, of which it holds nothing
    assert [line for line in lines(tmp_path) if line.startswith("'a red car'")] == [first]


def test_notes_are_one_line_each_in_the_order_they_came(tmp_path: Path) -> None:
    heard: list[Event] = []
    with recorded(tmp_path, False, heard.append) as tell:
        tell(Noted("first"))
        assert not (tmp_path / "log.txt").exists()  # it may be another run's
        tell(started(tmp_path))
        tell(Noted("second\nof two lines"))
        (tmp_path / "log.txt").open("a").write("2026-01-01T00:00:00+0000 torn by a cra")
        tell(Noted("third"))
    assert lines(tmp_path) == ["first", *spoken(started(tmp_path)), "second of two lines", "third"]
    assert [each.text for each in heard if isinstance(each, Noted)] == ["first", "second\nof two lines", "third"]


def test_what_ends_a_run_early_is_the_last_line(cfg: dict[str, Any], tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Iterated):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.execute(cfg, tmp_path, stop)
    assert lines(tmp_path)[-1].startswith(f"interrupted after 1 of 4 iterations: what there is of it is in {tmp_path}")


def test_a_run_that_goes_on_has_one_log_and_one_curve(cfg: dict[str, Any], tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Iterated) and event.iteration == 2:
            raise KeyboardInterrupt

    cfg = {**cfg, "tensorboard": True}
    with pytest.raises(KeyboardInterrupt):
        job.execute(cfg, tmp_path, stop)
    job.execute({**cfg, "resume": {**cfg["resume"], "folder": str(tmp_path)}}, tmp_path)
    first, broken, again, *_, last = lines(tmp_path)
    assert first.startswith("'a red car' on cpu") and broken.startswith("interrupted after 2 of 4")
    assert again.endswith(f"to {tmp_path}, after 2 of 4 iterations") and last.startswith("done in ")
    assert [each.step for each in shown(tmp_path / "tensorboard").Scalars("loss")] == [1, 2, 3, 4]


def test_a_run_that_is_refused_leaves_the_log_of_the_other_alone(cfg: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("2026-01-01T00:00:00+0000 of the other\n")
    with claimed(tmp_path), pytest.raises(UserError, match="another run"):
        job.execute(cfg, tmp_path)
    assert lines(tmp_path) == ["of the other"]


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "log.txt").mkdir()
    with recorded(tmp_path, False, print) as tell, pytest.raises(UserError, match=r"cannot write .*log\.txt"):
        tell(started(tmp_path))


def test_tensorboard_has_the_figures_of_the_metrics_and_the_pictures(cfg: dict[str, Any], tmp_path: Path) -> None:
    looks: list[Looked] = []
    job.execute({**cfg, "tensorboard": True}, tmp_path, lambda e: looks.append(e) if isinstance(e, Looked) else None)
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = shown(tmp_path / "tensorboard")
    assert set(found.Tags()["scalars"]) == {*metrics[0]} - {"iteration"}
    for name in found.Tags()["scalars"]:
        scalars = found.Scalars(name)
        assert [each.step for each in scalars] == [line["iteration"] for line in metrics] == [1, 2, 3, 4]
        assert [each.value for each in scalars] == pytest.approx([line[name] for line in metrics], rel=1e-6)
    images = found.Images("views/picture")
    assert [each.step for each in images] == [each.iteration for each in looks] == [0, 2, 4]
    for image, look in zip(images, looks, strict=True):
        (tmp_path / "look.png").write_bytes(image.encoded_image_string)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "look.png")), look.pictures["picture"])


def test_a_run_that_goes_on_replaces_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    for begin, end, loss in ((0, 5, 1.0), (3, 6, 2.0)):
        with Board(tmp_path) as board:
            board(started(tmp_path, begin))
            for iteration in range(begin + 1, end + 1):
                board(Iterated(iteration, 6, {"iteration": iteration, "loss": loss}))
    values = {each.step: each.value for each in shown(tmp_path).Scalars("loss")}
    assert values == {1: 1.0, 2: 1.0, 3: 1.0, 4: 2.0, 5: 2.0, 6: 2.0}
    assert len(shown(tmp_path).Scalars("loss")) == 6


def test_a_run_that_goes_back_replaces_what_it_takes_again(tmp_path: Path) -> None:
    picture = {"picture": np.zeros((8, 8, 3), np.uint8)}
    with Board(tmp_path) as board:
        board(started(tmp_path))
        board(Looked(0, "start", picture))
        for iteration, loss in ((1, 1.0), (2, 1.0), (3, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)):
            board(Looked(iteration, "look", picture))
            board(Iterated(iteration, 4, {"iteration": iteration, "loss": loss}))
    found = shown(tmp_path)
    assert [(each.step, each.value) for each in found.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)]
    assert [each.step for each in found.Images("views/picture")] == [0, 1, 2, 3, 4]


def test_a_run_without_tensorboard_takes_an_earlier_ones_away(cfg: dict[str, Any], tmp_path: Path) -> None:
    job.execute({**cfg, "tensorboard": True}, tmp_path)
    assert list((tmp_path / "tensorboard").iterdir())
    job.execute(cfg, tmp_path)
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_that_is_not_installed_is_told_before_the_run(
    cfg: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"tensorboard=true: .*pip install -e \"\.\[tensorboard\]\""):
        job.execute({**cfg, "tensorboard": True}, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_every_event_has_words_or_is_progress(cfg: dict[str, Any], tmp_path: Path) -> None:
    events: list[Event] = []
    job.execute(cfg, tmp_path, events.append)
    said = {type(each) for each in events if spoken(each)}
    assert said == {Started, Finished}
