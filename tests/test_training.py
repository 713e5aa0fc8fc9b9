"""The loop around trainings of priors and judges: what is interrupted, damaged or out of time goes on bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bumps import Bumps

from text23d.engine import judge_training, prior_training, training
from text23d.engine.signals import INTERRUPTIONS, undisturbed
from text23d.engine.training import Trainee, load, save, train
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.judge import training as judging
from text23d.prior.builtin import training as priors
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.unet import UNetConfig
from text23d.worlds.dataset import Recipe, open_or_build

CPU, WORLD = torch.device("cpu"), Bumps(1)
Give = Callable[[int], Any]


def prior(folder: Path, batch: int = 8) -> tuple[Trainee, Give]:
    data = open_or_build(folder / "data", Recipe(WORLD, 12, 2, 1))
    of_world: dict[str, Any] = {"words": 6, "channels": 2, "dimensions": 1, "features": 2}
    network = UNetConfig(
        **of_world, patch=2, widths=(16,), blocks=1, attention=(False,), embedding=32, text_width=32, sketch=4
    )
    config = priors.TrainConfig(images=6 * batch, batch=batch, warmup=8)
    return priors.TrainState.fresh(network, config, CPU), prior_training.batches(
        data, Vocabulary(WORLD.words), config.batch, config.seed, CPU
    )


def judge(folder: Path, batch: int = 8) -> tuple[Trainee, Give]:
    data = open_or_build(folder / "data", Recipe(WORLD, 12, 2, 1))
    config = judging.TrainConfig(steps=6, batch=batch)
    return judging.TrainState.fresh(WORLD, config, CPU, torch.float32), judge_training.batches(data, config, CPU)


BOTH = pytest.mark.parametrize("make", [prior, judge])


def ignore(loss: float) -> None:
    assert loss > 0


def stopping(give: Give, at: int, error: BaseException) -> Give:
    def batch(step: int) -> Any:
        if step == at:
            raise error
        return give(step)

    return batch


def without_seconds(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    tensors, facts = load_tensors(path, "training")
    assert facts.pop("seconds") > 0
    return {name: each.numpy().tobytes() for name, each in tensors.items()}, facts


@BOTH
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a disk failed")])
def test_a_broken_off_training_goes_on_bit_for_bit(tmp_path: Path, make: Any, error: BaseException) -> None:
    whole, file = tmp_path / "whole.safetensors", tmp_path / "training.safetensors"
    state, give = make(tmp_path)
    train(state, give, whole, ignore)
    first, _ = make(tmp_path)
    with pytest.raises(type(error)) as raised:
        train(first, stopping(give, 4, error), file, ignore)
    if isinstance(error, KeyboardInterrupt):
        assert str(raised.value) == f"interrupted after 4 steps, which {file} holds: the same command goes on"
    second, _ = make(tmp_path)
    load(file, second)
    assert second.step == 4 and second.seconds == first.seconds > 0
    train(second, give, file, ignore)
    assert second.done and second.seconds > first.seconds
    assert without_seconds(file) == without_seconds(whole)
    untrained, _ = make(tmp_path)
    save(tmp_path / "untrained.safetensors", untrained)
    names = [load_tensors(each, "training")[0].keys() for each in (tmp_path / "untrained.safetensors", whole)]
    assert names[0] < names[1], "moments are part of the state"


@BOTH
def test_time_is_a_limit_too(tmp_path: Path, make: Any) -> None:
    state, give = make(tmp_path)
    train(state, give, tmp_path / "t.safetensors", ignore, minutes=1e-9)
    assert state.step == 0 and (tmp_path / "t.safetensors").is_file()


@BOTH
def test_half_a_step_never_replaces_a_whole_state(tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state, give = make(tmp_path)
    file, advance = tmp_path / "t.safetensors", type(state).advance

    def breaks(self: Trainee, batch: Any) -> None:
        advance(self, batch)
        if self.step == 3:
            raise MemoryError

    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)
    monkeypatch.setattr(type(state), "advance", breaks)
    with pytest.raises(MemoryError):
        train(state, give, file, ignore)
    monkeypatch.undo()
    restored, _ = make(tmp_path)
    load(file, restored)
    assert restored.step == 2
    train(restored, give, file, ignore)
    whole, _ = make(tmp_path)
    train(whole, give, tmp_path / "whole.safetensors", ignore)
    assert without_seconds(file) == without_seconds(tmp_path / "whole.safetensors")


@pytest.mark.parametrize("number", INTERRUPTIONS)
def test_a_signal_in_the_middle_waits_for_the_end(number: int) -> None:
    done: list[str] = []

    def handler(number: int, frame: object) -> None:
        done.append("signal")
        raise KeyboardInterrupt

    before = signal.signal(number, handler)
    try:
        with pytest.raises(KeyboardInterrupt), undisturbed():
            os.kill(os.getpid(), number)
            time.sleep(0.05)
            done.append("block")
        assert done == ["block", "signal"] and signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with undisturbed():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@BOTH
def test_a_training_that_is_interrupted_from_outside_keeps_its_state(tmp_path: Path, make: Any) -> None:
    """In a process of its own, by Ctrl-C at any moment."""
    make(tmp_path)
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_training as t
folder = Path({str(tmp_path)!r})
state, give = t.{make.__name__}(folder)
object.__setattr__(state.config, "images" if t.{make.__name__} is t.prior else "steps", 10**9)
t.train(state, give, folder / "t.safetensors", lambda loss: print("step", flush=True))
"""
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    for _ in range(3):
        assert running.stdout.readline() == "step\n"
    running.send_signal(signal.SIGINT)
    _, error = running.communicate(timeout=60)
    state, _ = make(tmp_path)
    load(tmp_path / "t.safetensors", state)
    assert state.step >= 3 and f"interrupted after {state.step} steps" in error


NONSENSE: dict[str, Any] = {
    "no seconds": {"seconds": None},
    "negative seconds": {"seconds": -1.0},
    "steps of text": {"step": "3", "seen": "3"},
    "no network": {"config": None, "heads": None},
    "another network": {"config": {"words": 7}, "heads": []},
    "nonsense for a network": {"config": {"words": 6, "widths": "wide"}, "heads": [3]},
}


@BOTH
@pytest.mark.parametrize("what", NONSENSE)
def test_a_damaged_checkpoint_is_told_in_one_line(tmp_path: Path, make: Any, what: str) -> None:
    state, _ = make(tmp_path)
    save(tmp_path / "good.safetensors", state)
    tensors, facts = load_tensors(tmp_path / "good.safetensors", "training")
    save_tensors(tmp_path / "bad.safetensors", tensors, "training", {**facts, **NONSENSE[what]})
    with pytest.raises(UserError, match="another training, or is damaged") as raised:
        load(tmp_path / "bad.safetensors", state)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


@BOTH
def test_missing_or_misshapen_tensors_are_told_in_one_line(tmp_path: Path, make: Any) -> None:
    state, give = make(tmp_path)
    state.accumulate(give(0))
    state.advance(give(0))
    save(tmp_path / "good.safetensors", state)
    tensors, facts = load_tensors(tmp_path / "good.safetensors", "training")
    moment = next(name for name in tensors if name.startswith("adam.exp_avg."))
    weight = next(name for name in tensors if not name.startswith("adam."))
    for name, value in ((moment, None), (moment, torch.zeros(3)), (weight, None), (weight, torch.zeros(3))):
        other = {key: each for key, each in tensors.items() if key != name}
        save_tensors(tmp_path / "bad.safetensors", other | ({} if value is None else {name: value}), "training", facts)
        with pytest.raises(UserError, match="another training, or is damaged") as raised:
            load(tmp_path / "bad.safetensors", state)
        assert "\n" not in str(raised.value)
