"""Verbs in processes that need not import anything: copies of one that waits, which has imported all that a run needs.

Whatever a test does to such a process (signals, kills, limits) it does to a process of its own. What a command line
itself does, from the interpreter on, is tested by `python -m text23d.<verb>`, in test_cli.py and elsewhere.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
LOADED = (
    *("torch._dynamo", "torch.distributed", "text23d.cli", "text23d.run", "text23d.train_prior", "text23d.train_judge"),
    *("text23d.engine.job", "text23d.engine.build", "text23d.studies.sweep", "text23d.tasks.object", "PIL.ImageFont"),
    *("text23d.prior.builtin.guide", "text23d.judge.network", "text23d.representation.nerf", "text23d.door.libraries"),
)
"""What the process has imported that others are copies of."""
LARGEST = 1 << 17


class Verb:
    """A verb of text23d that runs, as subprocess.Popen would have it; in a session of its own, with one thread.

    environment: what it has beside that of the tests. script: a file whose code it runs in place of a verb.
    """

    def __init__(
        self, *arguments: str, verb: str = "run", script: Path | None = None, cwd: Path, words: IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.words = words or tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as this)
        given: dict[str, Any] = {
            "arguments": arguments,
            "verb": verb,
            "script": script and str(script),
            "cwd": str(cwd),
            "environment": {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        }
        self.returncode: int | None = None
        self.status, its_end = os.pipe()
        server = _server()
        socket.send_fds(server, [json.dumps(given).encode()], [self.words.fileno(), its_end])
        os.close(its_end)
        self.pid = int(self._line())

    def _line(self) -> bytes:
        found = b""
        while not found.endswith(b"\n"):
            part = os.read(self.status, 1)
            assert part, "the process that was to be copied has ended"
            found += part
        return found

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self.status], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self.status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("verb", timeout or 0)
            self.returncode = int(self._line())
            os.close(self.status)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[None, str]:
        """None, and all that it said."""
        self.wait(timeout)
        self.words.seek(0)
        return None, self.words.read().decode()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def done(*arguments: str, timeout: float = 300, **given: Any) -> subprocess.CompletedProcess[str]:
    """A verb that has ended; what it said is in stderr."""
    process = Verb(*arguments, **given)
    try:
        said = process.communicate(timeout)[1]
    finally:
        process.kill()
    assert process.returncode is not None
    return subprocess.CompletedProcess(arguments, process.returncode, "", said)


@cache
def _server() -> socket.socket:
    """The way to the process that waits; it ends with this one."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, __file__, str(its.fileno())]
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "pass_fds": [its.fileno()], "env": {**os.environ, **alone}}
    process = subprocess.Popen(command, **given)
    its.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(requests: socket.socket) -> None:
    """Become a verb for each request, in a copy of this process, and tell who asked of its number and its end."""
    from importlib import import_module

    for name in LOADED:
        import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "a copy of a process has but the thread that made it"
    while True:
        asked, fds, _, _ = socket.recv_fds(requests, LARGEST, 2)
        if not asked:
            return
        if os.fork() == 0:
            requests.close()
            keep(json.loads(asked), *fds)
        for each in fds:
            os.close(each)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def keep(given: Mapping[str, Any], words: int, status: int) -> NoReturn:
    """Start the verb, and wait for its end."""
    pid = os.fork()
    if pid == 0:
        os.close(status)
        become(given, words)
    os.write(status, b"%d\n" % pid)
    os.close(words)
    ended = os.waitpid(pid, 0)[1]
    os.write(status, b"%d\n" % os.waitstatus_to_exitcode(ended))
    os._exit(0)


def become(given: Mapping[str, Any], words: int) -> NoReturn:
    """The verb itself."""
    import runpy
    import time

    from text23d import cli

    code: object = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has what it starts beside it ignore
        os.chdir(given["cwd"])
        os.dup2(words, 1), os.dup2(words, 2)
        os.environ.clear()
        os.environ.update(given["environment"])
        sys.argv = [given["script"] or "text23d", *given["arguments"]]
        cli.STARTED = time.perf_counter()
        if given["script"]:
            runpy.run_path(given["script"], run_name="__main__")
            code = 0
        else:
            cli.main(given["verb"])
    except SystemExit as ended:
        code = ended.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
