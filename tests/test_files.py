"""Files are whole or absent, and every failure says what to do."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from text23d.errors import UserError
from text23d.files import JsonLines, atomic, load_tensors, save_tensors, write_bytes, write_json, write_text


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
        save_tensors(path, {"a": torch.zeros(5000)})
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["state.bin"]


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    for write in (lambda path: write_text(path, "x"), JsonLines, lambda path: save_tensors(path, {})):
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


def test_tensors_come_back_with_their_notes(tmp_path: Path) -> None:
    base = torch.arange(12, dtype=torch.float64).view(3, 4)
    tensors = {"a": base.T, "shared": base, "empty": torch.empty(0), "k": torch.tensor(3, dtype=torch.int16)}
    save_tensors(tmp_path / "a.safetensors", tensors, {"prompt": "ein rotes Auto, groß"})
    back, notes = load_tensors(tmp_path / "a.safetensors")
    assert notes == {"prompt": "ein rotes Auto, groß"} and back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor)
    save_tensors(tmp_path / "b.safetensors", tensors)
    assert load_tensors(tmp_path / "b.safetensors")[1] == {}


def test_missing_truncated_and_foreign_tensor_files(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"no file .*a\.safetensors.*expected"):
        load_tensors(path)
    save_tensors(path, {"a": torch.zeros(100)})
    whole = path.read_bytes()
    torch.save({"a": torch.zeros(3)}, tmp_path / "pickle")
    foreign = (tmp_path / "pickle").read_bytes()
    for content in (whole[:-1], whole[:200], whole[:20], whole[:4], b"", foreign, b"hello, world"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*a\.safetensors.*expected a whole"):
            load_tensors(path)
