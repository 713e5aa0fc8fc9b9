"""The results as markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from text23d.studies import markdown
from text23d.studies.benchmark.stages import KERNELS, NETWORK

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
    rows = []
    for row in results["operations"]:
        rates = number(row["flops_per_second"], 1e-9), percent(row["flops_share"])
        moved = number(row["bytes_per_second"], 1e-9), percent(row["bytes_share"])
        rows.append([row["name"], *times(row), *rates, *moved, *memory(row)])
    title = f"## Operations ({results['rays']} rays, {results['samples']} samples)"
    return section(title, [*titles, "native MB", "torch MB"], rows)


def iteration(results: Mapping[str, Any]) -> str:
    row = results["iteration"]
    titles = ["native ms", "torch ms", "torch / native", "GFLOP in products and convolutions", "GFLOP/s"]
    rate = number(row["flops"], 1e-9), number(row["flops_per_second"], 1e-9)
    title = f"## An iteration ({row['views']} views)"
    return section(title, [*titles, "native MB", "torch MB"], [[*times(row), *rate, *memory(row)]])


def times(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Milliseconds of both backends, and their ratio."""
    native, torch = row["seconds"].get("native"), row["seconds"]["torch"]
    return number(native, 1e3), number(torch, 1e3), number(None if native is None else torch / native)


def memory(row: Mapping[str, Any]) -> tuple[str, str]:
    """Megabytes of both backends."""
    return number(row["peak_bytes"].get("native"), 2**-20), number(row["peak_bytes"]["torch"], 2**-20)


def networks(results: Mapping[str, Any]) -> str:
    rows = []
    for row in results["networks"]:
        numbers = number(row["seconds"], 1e3), number(row["flops"], 1e-9), number(row["flops_per_second"], 1e-9)
        share = percent(row["flops_share"])
        rows.append([row["name"], row["dtype"], *numbers, share, number(row["peak_bytes"], 2**-20)])
    titles = ["network", "number type", "ms", "GFLOP", "GFLOP/s", "of limit", "MB"]
    return section("## Networks, forward", titles, rows)


def stages(results: Mapping[str, Any]) -> str:
    found, busy = results["stages"], results["busy_share"]
    everything = total(found)
    rows = []
    for name, spent in [*found.items(), ("**all**", everything)]:
        kernels = None if busy is None else sum(spent.get(part, 0.0) for part in KERNELS)
        network = spent.get(NETWORK, 0.0)
        inside = [number(each, 1e3) for each in (kernels, network, spent["seconds"] - (kernels or 0.0) - network)]
        rows.append([name, number(spent["seconds"], 1e3), percent(spent["seconds"] / everything["seconds"]), *inside])
    title = f"## Where an iteration's time goes ({results['backend']})\n\nThe mean of {results['iterations_profiled']} "
    title += "iterations along the run, under torch's profiler."
    return section(title, ["stage", "ms", "share", "kernels", "networks", "the rest"], rows) + "\n" + verdict(busy)


def verdict(busy: float | None) -> str:
    if busy is None:
        return "The torch twins' kernels are made of torch's own operators, and are not told apart from the rest.\n"
    judged = "reached" if busy >= GOAL else "missed"
    return f"In kernels and networks: {percent(busy)} (at least {percent(GOAL)} wanted: {judged}).\n"


def parts(results: Mapping[str, Any]) -> str:
    spent = total(results["stages"])
    names = [NETWORK] if results["busy_share"] is None else [*KERNELS, NETWORK]
    rows = [
        [name, number(spent.get(name, 0.0), 1e3), percent(spent.get(name, 0.0) / spent["seconds"])] for name in names
    ]
    return "\n".join(markdown.table(["part, forward and backward", "ms", "share"], rows)) + "\n"


def total(stages: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Seconds of all stages together, whole and by part."""
    names = {name for times in stages.values() for name in times}
    return {name: sum(times.get(name, 0.0) for times in stages.values()) for name in names}


def growth(results: Mapping[str, Any]) -> str:
    """Each curve in a line; p is the exponent of seconds ~ x^p."""
    rows = []
    for curve in results["curves"]:
        ends = [
            f"{curve['at'][i]}: {number(curve['seconds'][i], 1e3)} ms, {number(curve['peak_bytes'][i], 2**-20)} MB"
            for i in (0, -1)
        ]
        rows.append([curve["axis"], curve["operation"], curve["backend"], f"{curve['exponent']:.2f}", *ends])
    return section("## Growth", ["over", "operation", "backend", "p of seconds ~ x^p", "from", "to"], rows)


def section(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([title, "", *markdown.table(titles, rows)]) + "\n"


def number(value: float | None, factor: float = 1.0) -> str:
    """Three digits that count."""
    if value is None:
        return "-"
    scaled = value * factor
    return f"{scaled:.0f}" if abs(scaled) >= 100 else f"{scaled:.3g}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
