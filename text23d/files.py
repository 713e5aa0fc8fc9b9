"""Files that are either whole or absent: everything a run leaves behind is written through here.

A file is written beside its place under a hidden name, synced to the disk and renamed over the old one, so that a
crash, a kill or a full disk leaves the old file intact and never half of a new one. What a killed process had begun is
removed by the next write into that folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from text23d.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has no such locks: what a kill leaves there stays until a person removes it
    fcntl = None  # type: ignore[assignment]

UMASK = os.umask(0o077)
os.umask(UMASK)
NEW = 2.0  # seconds
log = logging.getLogger(__name__)
OfLines = TypeVar("OfLines", bound="Lines")


def _cannot_write(path: Path, error: OSError) -> UserError:
    reason = error.strerror or (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"cannot write {path}: {reason}; free some space or choose a folder that can be written to")


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, with its suffix, where an empty file lies; it becomes `path` when
    the block succeeds.

    Missing folders are made. When the block raises, the temporary file is removed and `path` stays as it was.
    Raises UserError (path and reason) for an OSError about it: full disk, read-only folder, a file for a folder.
    """
    path = Path(path)
    temporary = path.with_name(f".part-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EEXIST, "it exists and is not a regular file", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        with open(temporary, "xb") as claim:
            _lock(claim.fileno())
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~UMASK)  # some writers make private files, which a cluster's others could not read
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in {temporary, path, *path.parents}:
            raise  # about a file that the block reads, not about this one
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _lock(file: int) -> bool:
    """Take an open file's lock, if nobody has it. The kernel gives it back when its owner ends, however it ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):  # held, or a system without such locks
        return False
    return True


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files in `folder` that no living process holds. A new one may be about to be locked."""
    for part in folder.glob(".part-*"):
        with contextlib.suppress(OSError), open(part, "rb+") as file:
            if time.time() - os.fstat(file.fileno()).st_mtime > NEW and _lock(file.fileno()):
                part.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut. Some network folders, and Windows, cannot: the file is whole there anyway."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` atomically. Raises UserError as `atomic` does."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write several files, of which none is replaced before all are written. Raises UserError as `atomic` does."""
    with contextlib.ExitStack() as stack:
        for path, data in files.items():
            stack.enter_context(atomic(path)).write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` atomically as UTF-8 with \\n line ends. Raises UserError as `atomic` does."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` atomically as strict, indented JSON, in the order given (see `plain`)."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """What JSON can hold: tensors and arrays as lists, paths as text, and null where a number is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError where it is missing, or holds anything else."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: it is not JSON, or damaged; restore it or repeat its run") from error
    if not isinstance(value, dict):
        raise UserError(f"cannot read {path}: expected a JSON object {{...}}; restore it or repeat its run")
    return value


class Lines:
    """A text that grows line by line, readable by others as soon as `append` returns.

    Opening an existing file goes on after its last whole line: a line torn by a crash is cut off. A line that cannot
    be written whole is taken back. Raises UserError (path and reason) when the file cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab+", buffering=0)  # noqa: SIM115 (closed by close)
            self._file.truncate(self._end_of_last_line())
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _end_of_last_line(self, block: int = 1 << 16) -> int:
        end = self._file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - block)
            self._file.seek(start)
            newline = self._file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def append(self, text: str) -> None:
        """Add `text`, which holds no end of a line, as one."""
        line = (text + "\n").encode()
        start = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(start)
            raise _cannot_write(self.path, error) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self: OfLines) -> OfLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JsonLines(Lines):
    """Metrics as they come: one JSON object a line."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record (see `plain` for what becomes of its values)."""
        self.append(json.dumps(plain(record), ensure_ascii=False, allow_nan=False))

    def cut(self, keep: Callable[[Any], bool]) -> None:
        """Cut off everything from the first line on that `keep` refuses, or that is no JSON object with what `keep`
        asks for."""
        self._file.seek(0)
        end = 0
        try:
            for line in self._file.read().splitlines(keepends=True):
                try:
                    if not keep(json.loads(line)):
                        break
                except (ValueError, KeyError, TypeError, RecursionError):
                    break
                end += len(line)
            self._file.truncate(end)
        except OSError as error:
            raise _cannot_write(self.path, error) from error


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], kind: str, facts: Mapping[str, Any] | None = None
) -> None:
    """Write named tensors (any shape, dtype and device) atomically as safetensors: never a pickle.

    kind: what the file is, as "prior" or "nerf", in a word that `load_tensors` has to ask for. facts: what else it says
    of itself, as JSON (see `plain`). Both and a SHA-256 of all that the file says are its one note; safetensors writes
    several in an order that changes from run to run. Same arguments, same bytes.
    Raises UserError when the file cannot be written, and for a value that is not a finite number.
    """
    _require_finite(f"cannot write {path}", tensors)
    text = json.dumps(plain(facts or {}), ensure_ascii=False, allow_nan=False)
    note = f"sha256:{_checksum(tensors, kind, text)} {text}"
    # safetensors refuses tensors that share memory; a clone of each is cheap beside the write.
    owned = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        try:
            save_file(owned, temporary, {kind: note})  # not first into memory, where there may be no room for it
        except safetensors.SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            raise (OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))) from error


def load_tensors(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote as `kind`: CPU tensors by name, and the facts.

    A file from before files had checksums is read with a warning. Raises UserError when the file is missing, damaged,
    of another kind, or holds a value that is not a finite number.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {path}: expected a .safetensors file written by text23d; check the path")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            notes = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"cannot read {path}: expected a whole .safetensors file written by text23d; it is cut short or of another "
            "kind, so copy it again or choose an earlier one"
        ) from error
    facts = _checked_facts(path, tensors, notes, kind)
    _require_finite(f"cannot read {path}", tensors)
    return tensors, facts


def _checked_facts(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str], kind: str) -> dict[str, Any]:
    """The facts in a file's one note, all of the file compared with the checksum before them."""
    unchecked = all(note.startswith("{") for note in notes.values())
    if not unchecked and kind not in notes:
        raise UserError(f"{path} is of the kind {', '.join(notes)}: expected one of the kind {kind}; check the path")
    checksum, _, text = ("", "", notes.get(kind, "{}")) if unchecked else notes[kind].partition(" ")
    if not unchecked and checksum != f"sha256:{_checksum(tensors, kind, text)}":
        raise _damaged(path)
    try:
        facts: dict[str, Any] = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(path) from error
    if unchecked:
        log.warning("text23d: %s has no checksum, as files of earlier versions: damage to it would go unseen", path)
    return facts


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged: it differs from its checksum; copy it again or choose an earlier one")


def _checksum(tensors: Mapping[str, Tensor], kind: str, facts: str) -> str:
    """SHA-256 of the kind, the facts, and each tensor's name, dtype, shape and bytes, in the order of the names."""
    digest = hashlib.sha256(json.dumps([kind, facts]).encode())
    for name in sorted(tensors):
        digest.update(json.dumps([name, str(tensors[name].dtype), list(tensors[name].shape)]).encode())
        digest.update(_data(tensors[name]))
    return digest.hexdigest()


def _data(tensor: Tensor) -> memoryview:
    """A tensor's bytes, row by row."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _require_finite(what: str, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        # The extremes are not finite where any value is not, and are found faster.
        if tensor.is_floating_point() and tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise UserError(
                f"{what}: {name} holds values that are not finite numbers; the optimisation that made them has "
                "diverged, so take an earlier file, or repeat it with a lower learning rate"
            )
