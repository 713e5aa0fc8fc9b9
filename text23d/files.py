"""Files that are either whole or absent: everything a run leaves behind is written through here.

A file is written beside its place under a hidden name, synced to the disk and renamed over the old one, so that a
crash, a kill or a full disk leaves the old file intact and never half of a new one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import safetensors
from safetensors.torch import save_file
from torch import Tensor

from text23d.errors import UserError

UMASK = os.umask(0o077)
os.umask(UMASK)


def _cannot_write(path: Path, error: OSError) -> UserError:
    reason = error.strerror or (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"cannot write {path}: {reason}; free some space or choose a folder that can be written to")


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, with its suffix; it becomes `path` when the block succeeds.

    Missing folders are made. When the block raises, the temporary file is removed and `path` stays as it was.
    Raises UserError (path and reason) for an OSError about it: full disk, read-only folder, a file for a folder.
    """
    path = Path(path)
    temporary = path.with_name(f".part-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EEXIST, "it exists and is not a regular file", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
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


class JsonLines:
    """Metrics as they come: one JSON object a line, readable by others as soon as `write` returns.

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

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record (see `plain` for what becomes of its values)."""
        line = (json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n").encode()
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

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named tensors (any shape, dtype and device) and text notes atomically as safetensors: never a pickle.

    Raises UserError (path and reason) when the file cannot be written.
    """
    # safetensors refuses tensors that share memory; a clone of each is cheap beside the write.
    owned = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        try:
            save_file(owned, temporary, metadata=dict(metadata or {}))
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_tensors` wrote: CPU tensors by name, and the text notes.

    Raises UserError when the file is missing, cut short, or not a safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {path}: expected a .safetensors file written by text23d; check the path")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"cannot read {path} ({error}): expected a whole .safetensors file written by text23d; "
            "it is cut short or of another kind, so copy it again or choose an earlier one"
        ) from error
