"""python -m text23d.studies.worker FOLDER OVERRIDE...: one main job, which ends when its standard input does.

`launcher` holds the other end of that pipe. It closes it to stop the job, and the system does so where the launcher
dies, whatever killed it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

GRACE = 30.0
"""Seconds in which a job that is told to stop may save its work."""
MISTAKE, INTERRUPTED = 2, 130
"""Exit statuses beside 0."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    try:
        work(*sys.argv[1:])
    except KeyboardInterrupt as error:
        print(f"text23d: {error or 'interrupted'}")
        sys.exit(INTERRUPTED)


def work(folder: str, *overrides: str) -> None:
    """The main job, which says on standard output what a person should know."""
    # Imported once the thread watches: these take seconds.
    from text23d.compose import compose
    from text23d.engine.events import Event
    from text23d.engine.job import execute
    from text23d.engine.spoken import spoken
    from text23d.errors import UserError

    def say(event: Event) -> None:
        for line in spoken(event):
            print(f"text23d: {line}", flush=True)

    try:
        execute(compose("config", overrides), folder, say)
    except UserError as error:
        print(f"text23d: {error}")
        sys.exit(MISTAKE)


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
