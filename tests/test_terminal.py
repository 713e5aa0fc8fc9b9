"""Progress on standard error: a bar on a terminal, plain lines where there is none."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress

import pytest

from text23d.engine.events import Event, Exporting, Iterated, Noted
from text23d.meter import Meter
from text23d.terminal import Bars, Terminal

Capture = pytest.CaptureFixture[str]
FIGURES = {"sigma": 3.14159, "loss": 0.02, "noise_ratio": 1.0, "residual": 0.5, "nfe": 12}
SAID = "sigma 3.14, loss 0.02, noise ratio 1, residual 0.5"


class Clock:
    """A time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("text23d.meter.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def iterations(show: Callable[[Event], None], clock: Clock, numbers: range, total: int, pace: float) -> None:
    for number in numbers:
        clock.now += pace
        show(Iterated(number, total, FIGURES))


def test_without_a_terminal_a_line_every_five_seconds_and_the_first_and_the_last(clock: Clock, capsys: Capture) -> None:
    with Terminal() as show:
        iterations(show, clock, range(1, 21), 20, 0.75)
    found = capsys.readouterr().err
    assert "\r" not in found and "\x1b" not in found
    assert found.splitlines() == [
        f"text23d: iteration 1 of 20, {SAID}",
        f"text23d: iteration 8 of 20, {SAID}, 9 s left",  # 5.25 s later, at 0.75 s each: 12 are to come
        f"text23d: iteration 15 of 20, {SAID}, 4 s left",
        f"text23d: iteration 20 of 20, {SAID}",
    ]


def test_lines_of_a_run_that_goes_on_and_of_its_export(clock: Clock, capsys: Capture) -> None:
    with Terminal() as show:
        iterations(show, clock, range(51, 55), 84, 4.0)
        show(Noted("iteration 54 diverged: back to 52"))
        iterations(show, clock, range(53, 54), 84, 4.0)
        for frame in range(1, 4):
            clock.now += 1
            show(Exporting("turntable", frame, 3))
    assert capsys.readouterr().err.splitlines() == [
        f"text23d: iteration 51 of 84, {SAID}",
        f"text23d: iteration 53 of 84, {SAID}, 124 s left",
        "text23d: iteration 54 diverged: back to 52",
        f"text23d: iteration 53 of 84, {SAID}, 248 s left",  # the steps that were lost count in the pace
        "text23d: turntable 1 of 3",
        "text23d: turntable 3 of 3",
    ]


def test_a_training_says_the_same_where_there_is_no_terminal(clock: Clock, capsys: Capture) -> None:
    with Bars() as bars:
        bars("images", 1, 1)
        for step in (1, 2, 3):
            clock.now += 10
            bars("step", step, 3, loss=0.5)
    assert capsys.readouterr().err.splitlines() == [
        "text23d: images 1 of 1",
        "text23d: step 1 of 3, loss 0.5000",
        "text23d: step 2 of 3, loss 0.5000, 10 s left",
        "text23d: step 3 of 3, loss 0.5000",
    ]


@contextmanager
def screen() -> Iterator[list[str]]:
    """Standard error that is a terminal; afterwards the list holds what was written to it."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    parts: list[bytes] = []
    written: list[str] = []

    def read() -> None:
        with suppress(OSError):  # once the other end is closed
            while part := os.read(master, 4096):
                parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(slave, "w") as stream, redirect_stderr(stream):
        yield written
    reader.join()
    os.close(master)
    written.append(b"".join(parts).decode())


def test_a_note_stands_above_the_bar_and_tears_nothing() -> None:
    with screen() as written, Terminal() as show:
        for number in (1, 2):
            show(Iterated(number, 4, FIGURES))
        show(Noted("the loss is not finite: back to iteration 1"))
        for number in (2, 3, 4):
            show(Iterated(number, 4, FIGURES))
    rows = written[0].replace("\r\n", "\n").split("\n")
    drawn = [row.rpartition("\r")[2] for row in rows]  # what is left of a row at its end
    note = drawn.index("text23d: the loss is not finite: back to iteration 1")
    assert not any(SAID in row for row in drawn[:note])  # the bar was taken away before
    (bar,) = [row for row in drawn[note + 1 :] if SAID in row]
    assert bar.startswith("iteration: 100%") and "4/4" in bar


def test_items_are_metered_one_after_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("text23d.meter.monotonic", lambda: now[0])
    for item in Meter().along("abcd", "letter"):
        now[0] += 3.0
        assert item in "abcd"
    said = capsys.readouterr().err.splitlines()
    assert said == ["text23d: letter 1 of 4", "text23d: letter 3 of 4, 3 s left", "text23d: letter 4 of 4"]


def test_a_count_that_stays_is_told_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, meter = [0.0], Meter()
    monkeypatch.setattr("text23d.meter.monotonic", lambda: now[0])
    for step in range(5):
        now[0] = 2.0 * step
        meter("runs", 0, 2, f"iteration {step}")
    meter("runs", 2, 2)
    with meter.aside():
        pass
    said = capsys.readouterr().err.splitlines()
    assert said == [f"text23d: runs {each}" for each in ("0 of 2, iteration 0", "0 of 2, iteration 3", "2 of 2")]
