"""python -m text23d.engine.worker FOLDER: one main job, which ends when its standard input does.

The first line of its input is the configuration as JSON. `member` holds the other end of that pipe. It closes it to
stop the job, and the system does so where the process that waits for the job dies, whatever killed it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress

from text23d.engine.watchdog import GRACE

DEFECT, MISTAKE, HUNG, INTERRUPTED = 1, 2, 3, 130
"""Exit statuses beside 0."""
OUTPUT = "output.txt"
"""The file, in the job's folder, of what the job says; its standard output."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
    try:
        line = first_line()
        threading.Thread(target=stop_at_end_of_input, daemon=True).start()
        work(sys.argv[1], json.loads(line))
    except KeyboardInterrupt as error:
        print(f"text23d: {error or 'interrupted'}")
        sys.exit(INTERRUPTED)


def first_line() -> bytes:
    """Of standard input, and nothing beyond it. Raises KeyboardInterrupt where it ends before."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 1 << 16)  # whoever writes it writes no second one
        if not part:
            raise KeyboardInterrupt
        line += part
    return line


def work(folder: str, cfg: dict[str, object]) -> None:
    """The main job, which says on standard output what a person should know, and touches its log when something
    moved."""
    # Imported once the thread watches: these take seconds.
    from text23d.engine.events import Event
    from text23d.engine.job import execute
    from text23d.engine.spoken import spoken
    from text23d.errors import Hung, UserError

    def say(event: Event) -> None:
        with suppress(OSError):
            os.utime(os.path.join(folder, OUTPUT))
        for line in spoken(event):
            print(f"text23d: {line}", flush=True)

    try:
        execute(cfg, folder, say)
    except UserError as error:
        print(f"text23d: {error}")
        sys.exit(HUNG if isinstance(error, Hung) else MISTAKE)


def stop_at_end_of_input() -> None:
    """Interrupt the main thread as Ctrl-C does when nothing holds standard input open, and end the process, with all
    that it started, if it has not ended in time."""
    while os.read(0, 4096):
        pass
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)
    time.sleep(GRACE)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
