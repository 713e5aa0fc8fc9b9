"""What studies read again from the disk: whole, or told as damaged in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.files import save_tensors, write_bytes
from text23d.studies.records import cached, check_settings, number, read_json_lines, reading

ODD = {
    "binary": b"\x93NUMPY\x00\xff\xfe",
    "empty": b"",
    "torn": b'{"seconds": 1',
    "a list": b"[1, 2]",
    "a number": b"5",
    "null": b"null",
    "deep": b"[" * 100_000,
    "long": b'{"seed": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_told_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"
    write_bytes(path, ODD[name])
    with pytest.raises(UserError, match="file is damaged or of another kind: remove it and repeat what") as raised:
        read_json_lines(path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*nowhere: No such file"):
        read_json_lines(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        read_json_lines(tmp_path)


def test_whole_files_are_read(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", '{"prompt": "ä 🚗"}\n{"a": 2.5}\n'.encode())
    assert read_json_lines(tmp_path / "a") == [{"prompt": "ä 🚗"}, {"a": 2.5}]


@pytest.mark.parametrize("value", [None, True, "1", [1], float("nan"), float("inf"), 10**400])
def test_numbers_are_finite(tmp_path: Path, value: object) -> None:
    assert number({"a": 3, "b": 0.5}, "a") == 3 and number({"b": 0.5}, "b") == 0.5
    with pytest.raises(UserError, match="damaged"), reading(tmp_path):
        number({"a": value}, "a")
    with pytest.raises(UserError, match="damaged"), reading(tmp_path):
        number({}, "a")


def test_pictures_are_made_once_and_kept_in_8_bits(tmp_path: Path) -> None:
    x, calls = torch.rand(2, 4, 8, 8) * 2.2 - 1.1, []

    def make() -> Tensor:
        calls.append(1)
        return x

    first = cached(tmp_path / "a.safetensors", make)
    again = cached(tmp_path / "a.safetensors", make)
    assert torch.equal(first, again) and len(calls) == 1
    assert (first - x.clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6


def test_cached_pictures_are_pictures(tmp_path: Path) -> None:
    def nothing() -> Tensor:
        raise AssertionError("there is a file")

    odd: dict[str, Callable[[Path], None]] = {
        "other": lambda path: save_tensors(path, {"other": torch.zeros(1, 4, 8, 8, dtype=torch.uint8)}, "pictures"),
        "floats": lambda path: save_tensors(path, {"pictures": torch.zeros(1, 4, 8, 8)}, "pictures"),
        "flat": lambda path: save_tensors(path, {"pictures": torch.zeros(8, dtype=torch.uint8)}, "pictures"),
        "rgb": lambda path: save_tensors(path, {"pictures": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, "pictures"),
        "binary": lambda path: write_bytes(path, ODD["binary"]),
    }
    for name, write in odd.items():
        write(tmp_path / name)
        with pytest.raises(UserError, match=f"{name}"):
            cached(tmp_path / name, nothing)


def test_a_folder_is_gone_on_with_by_the_same_settings_only(tmp_path: Path) -> None:
    made, settings = tmp_path / "made", {"steps": 2, "prior": {"images": 48}, "settings": ["a=1"]}
    check_settings(made, {**settings, "settings": ("a=1",)})
    check_settings(made, settings)
    for change, name in (({"steps": 3}, "steps"), ({"prior": {"images": 49}}, "prior"), ({"settings": []}, "settings")):
        with pytest.raises(
            UserError, match=f"made holds results of another {name}: remove it or choose another folder"
        ):
            check_settings(made, {**settings, **change})
    assert json.loads((made / "settings.json").read_text()) == settings
    write_bytes(made / "settings.json", ODD["binary"])
    with pytest.raises(UserError, match=r"cannot read .*settings\.json: it is not JSON"):
        check_settings(made, settings)
