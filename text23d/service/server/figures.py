"""Figures of the server in Prometheus' text format, version 0.0.4."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

BOUNDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Upper bounds of the histogram's classes, in seconds."""
TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Figures:
    """Counts requests. Safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.classes: Counter[int] = Counter()
        self.seconds, self.streams = 0.0, 0
        self.submitted: Counter[str] = Counter()

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. route: as the interface names it, not as it was written: there are few."""
        with self._lock:
            self.requests[method, route, status] += 1
            self.classes[bisect_left(BOUNDS, seconds)] += 1
            self.seconds += seconds

    def text(self, jobs: Mapping[str, int], workers: int) -> str:
        """All figures. jobs: how many there are by state; workers: how many are alive."""
        with self._lock:
            return "\n".join([*self._lines(jobs, workers), ""])

    def _lines(self, jobs: Mapping[str, int], workers: int) -> Iterator[str]:
        yield from head("text23d_jobs", "gauge", "Jobs by state.")
        yield from (sample("text23d_jobs", count, state=state) for state, count in jobs.items())
        yield from head("text23d_submitted_total", "counter", "Jobs taken since the start, by medium.")
        yield from (sample("text23d_submitted_total", count, medium=name) for name, count in self.submitted.items())
        yield from head("text23d_workers", "gauge", "Workers that are alive.")
        yield sample("text23d_workers", workers)
        yield from head("text23d_streams", "gauge", "Event streams that are open.")
        yield sample("text23d_streams", self.streams)
        name = "text23d_requests_total"
        yield from head(name, "counter", "Requests by method, route and status.")
        for (method, route, status), count in self.requests.items():
            yield sample(name, count, method=method, route=route, status=status)
        name, total = "text23d_request_seconds", 0
        yield from head(name, "histogram", "Seconds until a request was answered, streams apart.")
        for index, bound in enumerate(BOUNDS):
            total += self.classes[index]
            yield sample(f"{name}_bucket", total, le=bound)
        total += self.classes[len(BOUNDS)]
        yield sample(f"{name}_bucket", total, le="+Inf")
        yield sample(f"{name}_sum", round(self.seconds, 6))
        yield sample(f"{name}_count", total)


def head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def sample(name: str, value: float, **labels: object) -> str:
    """A line; labels are escaped as the format wants it."""
    told = ",".join(f'{key}="{escaped(str(each))}"' for key, each in labels.items())
    return f"{name}{{{told}}} {value}" if told else f"{name} {value}"


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
