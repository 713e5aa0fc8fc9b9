"""The results as markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from text23d.studies.benchmark.job import KERNELS, NETWORKS

GOAL = 0.85
"""Of an iteration's time, to be spent in kernels and networks."""


def table(results: Mapping[str, Any]) -> str:
    """All that was measured."""
    sections = [header, operations, iteration, networks, stages, parts, growth]
    return "\n".join(section(results) for section in sections)


def header(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    facts = machine["facts"]
    rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in machine["rates"].items())
    load = "" if facts["load"] is None else f", load {facts['load']:.1f} at the start"
    return (
        f"# Benchmark on {results['device']}, {results['date']}\n\n"
        f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads{load}; torch {facts['torch']}. "
        f"Measured limits: {machine['bandwidth'] / 1e9:.1f} GB/s (triad), {rates} (matrix product).\n\n"
        "Medians of calls in turn, compiled kernels and torch twins in one run. FLOPs and bytes are those of the "
        "operation, look-ups included: caches serve most of these, so more than 100 % of the memory's bandwidth is "
        "possible. Memory: the most that tensors hold during the call, beyond what they held before. What another "
        "package does stands in both columns.\n"
    )


def operations(results: Mapping[str, Any]) -> str:
    titles = ["operation", "native ms", "torch ms", "torch / native", "GFLOP/s", "of limit", "GB/s", "of limit"]
    lines = heading([*titles, "native MB", "torch MB"])
    for row in results["operations"]:
        rates = number(row["flops_per_second"], 1e-9), percent(row["flops_share"])
        moved = number(row["bytes_per_second"], 1e-9), percent(row["bytes_share"])
        lines.append(cells(row["name"], *times(row), *rates, *moved, *memory(row)))
    return f"## Operations ({results['rays']} rays, {results['samples']} samples)\n\n" + "\n".join(lines) + "\n"


def iteration(results: Mapping[str, Any]) -> str:
    row = results["iteration"]
    titles = ["native ms", "torch ms", "torch / native", "GFLOP in products and convolutions", "GFLOP/s"]
    lines = heading([*titles, "native MB", "torch MB"])
    rate = number(row["flops"], 1e-9), number(row["flops_per_second"], 1e-9)
    lines.append(cells(*times(row), *rate, *memory(row)))
    return f"## An iteration ({row['views']} views)\n\n" + "\n".join(lines) + "\n"


def times(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Milliseconds of both backends, and their ratio."""
    native, torch = row["seconds"].get("native"), row["seconds"]["torch"]
    return number(native, 1e3), number(torch, 1e3), number(None if native is None else torch / native)


def memory(row: Mapping[str, Any]) -> tuple[str, str]:
    """Megabytes of both backends."""
    return number(row["peak_bytes"].get("native"), 2**-20), number(row["peak_bytes"]["torch"], 2**-20)


def networks(results: Mapping[str, Any]) -> str:
    lines = heading(["network", "number type", "ms", "GFLOP", "GFLOP/s", "of limit", "MB"])
    for row in results["networks"]:
        numbers = number(row["seconds"], 1e3), number(row["flops"], 1e-9), number(row["flops_per_second"], 1e-9)
        share = percent(row["flops_share"])
        lines.append(cells(row["name"], row["dtype"], *numbers, share, number(row["peak_bytes"], 2**-20)))
    return "## Networks, forward\n\n" + "\n".join(lines) + "\n"


def stages(results: Mapping[str, Any]) -> str:
    found = results["stages"]
    everything = total(found)
    lines = heading(["stage", "ms", "share", "kernels", "networks", "the rest"])
    for name, spent in [*found.items(), ("**all**", everything)]:
        kernels, networks = (sum(spent.get(part, 0.0) for part in parts) for parts in (KERNELS, NETWORKS))
        inside = [number(each, 1e3) for each in (kernels, networks, spent["seconds"] - kernels - networks)]
        share = percent(spent["seconds"] / everything["seconds"])
        lines.append(cells(name, number(spent["seconds"], 1e3), share, *inside))
    busy = results["busy_share"]
    verdict = "reached" if busy >= GOAL else "missed"
    return (
        f"## Where an iteration's time goes ({results['backend']})\n\n"
        f"The mean of {results['iterations_profiled']} iterations along the run, under torch's profiler.\n\n"
        + "\n".join(lines)
        + f"\n\nIn kernels and networks: {percent(busy)} (at least {percent(GOAL)} wanted: {verdict}).\n"
    )


def parts(results: Mapping[str, Any]) -> str:
    spent = total(results["stages"])
    lines = heading(["part, forward and backward", "ms", "share"])
    for name in (*KERNELS, *NETWORKS):
        lines.append(cells(name, number(spent.get(name, 0.0), 1e3), percent(spent.get(name, 0.0) / spent["seconds"])))
    return "\n".join(lines) + "\n"


def total(stages: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Seconds of all stages together, whole and by part."""
    names = {name for times in stages.values() for name in times}
    return {name: sum(times.get(name, 0.0) for times in stages.values()) for name in names}


def growth(results: Mapping[str, Any]) -> str:
    """Each curve in a line; p is the exponent of seconds ~ x^p."""
    lines = ["## Growth", "", *heading(["over", "operation", "backend", "p of seconds ~ x^p", "from", "to"])]
    for curve in results["curves"]:
        ends = [
            f"{curve['at'][i]}: {number(curve['seconds'][i], 1e3)} ms, {number(curve['peak_bytes'][i], 2**-20)} MB"
            for i in (0, -1)
        ]
        lines.append(cells(curve["axis"], curve["operation"], curve["backend"], f"{curve['exponent']:.2f}", *ends))
    return "\n".join(lines) + "\n"


def heading(titles: list[str]) -> list[str]:
    return [cells(*titles), "|---" * len(titles) + "|"]


def cells(*values: str) -> str:
    return "| " + " | ".join(values) + " |"


def number(value: float | None, factor: float = 1.0) -> str:
    """Three digits that count."""
    if value is None:
        return "-"
    scaled = value * factor
    return f"{scaled:.0f}" if abs(scaled) >= 100 else f"{scaled:.3g}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
