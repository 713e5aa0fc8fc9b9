"""Files are whole or absent, and every failure says what to do."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from text23d.errors import UserError
from text23d.files import (
    JsonLines,
    atomic,
    load_tensors,
    read_json,
    save_tensors,
    write_bytes,
    write_json,
    write_text,
)
from text23d.paths import weights_dir

ODD_NAMES = ["two words", "100%d", "größe", "赤い車", "a=b,c (1)", "-dash", "#1 'q' \"q\"", ".hidden", "a" * 200]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk that is full after `size` bytes of a file, by the kernel itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_atomic_keeps_the_suffix_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "mesh.glb"
    with atomic(path) as temporary:
        assert temporary.suffix == ".glb" and temporary.parent == path.parent
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole" and os.listdir(path.parent) == ["mesh.glb"]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic(path) as temporary:
        temporary.write_bytes(b"half of the new")
        raise error
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["state.bin"]


def test_a_failed_rename_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"state\.bin.*No space left on device"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["state.bin"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    with file_size_limit(1000), pytest.raises(UserError, match=r"state\.bin.*too large"):
        write_bytes(path, bytes(5000))
    with file_size_limit(1000), pytest.raises(UserError, match=r"state\.bin.*too large"):
        save_tensors(path, {"a": torch.zeros(5000)}, "zeros")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["state.bin"]


@contextmanager
def without_rights() -> Iterator[None]:
    """Root may write anywhere: as nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    tmp_path.chmod(0o555)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.geteuid() and folder.name.startswith("pytest-"):
            folder.chmod(0o755)
    with (
        without_rights(),
        pytest.raises(UserError, match=r"cannot write .*a\.txt: Permission denied; free some space or"),
    ):
        write_text(tmp_path / "a.txt", "new")
    tmp_path.chmod(0o755)
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        write_text(tmp_path / name / name, name)
        save_tensors(tmp_path / name / f"{name}.st", {name: torch.ones(2)}, name, {name: name})
    assert (tmp_path / name / name).read_text(encoding="utf-8") == name
    tensors, facts = load_tensors(tmp_path / name / f"{name}.st", name)
    assert tensors[name].tolist() == [1, 1] and facts == {name: name}
    assert sorted(os.listdir(tmp_path / name)) == sorted([name, f"{name}.st"])


KILLED = """
import sys, time
from text23d.files import atomic
with atomic(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    print("begun", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_had_begun_goes_with_the_next_write(tmp_path: Path) -> None:
    """And what a living one has begun, in this process or in another, stays."""
    path, command = tmp_path / "state.bin", [sys.executable, "-c", KILLED, str(tmp_path / "state.bin")]
    path.write_bytes(b"old")
    killed, living = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2))
    for process in (killed, living):
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
    (tmp_path / ".part-of-another-program").mkdir()
    killed.kill()
    killed.wait()
    assert path.read_bytes() == b"old"
    write_text(tmp_path / "inner.txt", "inner")
    parts = sorted(tmp_path.glob(".part-*.bin"))
    assert len(parts) == 2, "a new one may be about to be locked"
    for part in parts:
        os.utime(part, (0, 0))
    with atomic(tmp_path / "outer.txt") as outer:
        outer.write_text("outer")
        write_text(tmp_path / "inner.txt", "inner")
        (left,) = tmp_path.glob(".part-*.bin")
        assert left.name.startswith(f".part-{living.pid}-")
    living.send_signal(signal.SIGKILL)
    living.wait()
    write_text(tmp_path / "inner.txt", "inner")
    assert sorted(os.listdir(tmp_path)) == [".part-of-another-program", "inner.txt", "outer.txt", "state.bin"]


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    for write in (lambda path: write_text(path, "x"), JsonLines, lambda path: save_tensors(path, {}, "empty")):
        with pytest.raises(UserError, match=r"taken.out\.x: .*choose a folder"):
            write(tmp_path / "taken" / "out.x")


def test_an_unreadable_input_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "out"):
        (tmp_path / "no" / "input").read_bytes()
    assert os.listdir(tmp_path) == []


def test_json_is_strict_and_readable(tmp_path: Path) -> None:
    value = {"loss": float("nan"), "at": tmp_path, "t": torch.arange(2), "n": np.float32(0.5), "s": ("é", np.inf)}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"loss": None, "at": str(tmp_path), "t": [0, 1], "n": 0.5, "s": ["é", None]}
    assert "é" in text and "NaN" not in text


def test_json_that_is_no_object_is_told(tmp_path: Path) -> None:
    write_json(tmp_path / "good.json", {"größe": [1]})
    assert read_json(tmp_path / "good.json") == {"größe": [1]}
    odd = {"list": b"[1]", "text": b'"a"', "null": b"null", "cut": b'{"a": 1', "binary": b"\x80\xff\x00", "empty": b""}
    for name, content in {**odd, "deep": b"[" * 100_000}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"cannot read .*{name}: .*; restore it or repeat its run$"):
            read_json(tmp_path / name)
    for name in ("missing", "."):
        with pytest.raises(UserError, match=r"cannot read .*: (No such file|Is a directory).*; check the path"):
            read_json(tmp_path / name)


def test_metrics_can_be_followed_and_go_on_after_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with JsonLines(path) as metrics:
        metrics.write({"step": 0})
        assert path.read_text() == '{"step": 0}\n'
    with open(path, "a") as file:
        file.write('{"step": 1, "loss": 0.1')
    with JsonLines(path) as metrics:
        metrics.write({"step": 1, "loss": torch.tensor(0.25)})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 0}, {"step": 1, "loss": 0.25}]


def test_a_torn_line_longer_than_a_block_is_found(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n' + "x" * 200_000)
    JsonLines(path).close()
    assert path.read_text() == '{"step": 0}\n'


def test_a_metric_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with JsonLines(path) as metrics:
        metrics.write({"step": 0})
        with file_size_limit(100), pytest.raises(UserError, match="too large"):
            metrics.write({"text": "x" * 500})
        metrics.write({"step": 1})
    assert path.read_text() == '{"step": 0}\n{"step": 1}\n'


def many_tensors() -> dict[str, torch.Tensor]:
    base = torch.arange(12, dtype=torch.float64).view(3, 4)
    small = {"empty": torch.empty(0), "k": torch.tensor(3, dtype=torch.int16), "flags": torch.tensor([True, False])}
    return {"a": base.T, "shared": base, **small, "b": torch.ones(3).bfloat16(), "c": torch.ones(2, 0, 3)}


def test_tensors_come_back_with_their_facts(tmp_path: Path) -> None:
    tensors, facts = many_tensors(), {"prompt": "ein rotes Auto, groß", "sizes": (1, 2.5), "loss": float("nan")}
    save_tensors(tmp_path / "a.safetensors", tensors, "nerf", facts)
    back, told = load_tensors(tmp_path / "a.safetensors", "nerf")
    assert told == {"prompt": "ein rotes Auto, groß", "sizes": [1, 2.5], "loss": None} and back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor)
    save_tensors(tmp_path / "b.safetensors", dict(reversed(tensors.items())), "nerf", facts)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    save_tensors(tmp_path / "c.safetensors", tensors, "nerf")
    assert load_tensors(tmp_path / "c.safetensors", "nerf")[1] == {}


def test_every_flipped_bit_is_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, many_tensors(), "nerf", {"prompt": "a red car", "gain": 25.0})
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.safetensors") as raised:
            load_tensors(path, "nerf")
        assert "\n" not in str(raised.value)
    assert not caplog.records


def test_what_is_shipped_has_a_checksum(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, kind in {"prior": "prior", "prior_fine": "prior", "prior_small": "prior", "judge": "judge"}.items():
        shipped = weights_dir() / f"{name}.safetensors"
        tensors, facts = load_tensors(shipped, kind)
        assert not caplog.records
        save_tensors(tmp_path / "again", tensors, kind, facts)
        assert (tmp_path / "again").read_bytes() == shipped.read_bytes()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "nerf.safetensors", {"a": torch.zeros(3)}, "nerf", {"format": "text23d-prior-3"})
    with pytest.raises(UserError, match=r"nerf\.safetensors is of the kind nerf: expected one of the kind prior"):
        load_tensors(tmp_path / "nerf.safetensors", "prior")


@pytest.mark.parametrize("notes", [None, {"prior": '{"words": ["car"]}'}, {"run": '{"prompt": "a red car"}'}])
def test_files_without_a_checksum_are_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, notes: dict[str, str] | None
) -> None:
    """As files of version 0.1.0 are, whose one note was the facts."""
    path = tmp_path / "old.safetensors"
    save_file({"a": torch.arange(3)}, path, notes)
    tensors, facts = load_tensors(path, "prior")
    assert tensors["a"].tolist() == [0, 1, 2] and facts == ({"words": ["car"]} if "prior" in (notes or {}) else {})
    ((_, level, said),) = caplog.record_tuples
    assert level == logging.WARNING and said.startswith(f"text23d: {path} has no checksum")
    save_file({"a": torch.arange(3)}, path, {"prior": "{broken"})
    with pytest.raises(UserError, match="is damaged"):
        load_tensors(path, "prior")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_values_that_are_not_finite_are_neither_written_nor_read(
    tmp_path: Path, bad: float, dtype: torch.dtype
) -> None:
    path, bias = tmp_path / "nerf.safetensors", torch.zeros(3, 4, dtype=dtype)
    save_tensors(path, {"good": bias, "mlp.2.bias": bias}, "nerf")
    whole = path.read_bytes()
    bias[1, 2] = bad
    tensors = {"good": torch.zeros(2), "mlp.2.bias": bias}
    with pytest.raises(
        UserError, match=r"cannot write .*nerf\.safetensors: mlp\.2\.bias holds values that are not fin"
    ):
        save_tensors(path, tensors, "nerf")
    assert path.read_bytes() == whole and os.listdir(tmp_path) == ["nerf.safetensors"]
    save_file(tensors, path)
    with pytest.raises(
        UserError, match=r"cannot read .*nerf\.safetensors: mlp\.2\.bias holds values that are not finite"
    ):
        load_tensors(path, "nerf")


def test_missing_truncated_and_foreign_tensor_files(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"no file .*a\.safetensors.*expected"):
        load_tensors(path, "zeros")
    save_tensors(path, {"a": torch.zeros(100)}, "zeros")
    whole = path.read_bytes()
    torch.save({"a": torch.zeros(3)}, tmp_path / "pickle")
    foreign = (tmp_path / "pickle").read_bytes()
    for content in (whole[:-1], whole[:200], whole[:20], whole[:4], b"", foreign, b"hello, world", whole + b"more"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*a\.safetensors.*expected a whole"):
            load_tensors(path, "zeros")
