"""A server whose workers Ray places: on two nodes, of which one is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import awaited
from served import Served, environment, serving, settings

from text23d.errors import UserError
from text23d.service.server.database import sqlite
from text23d.service.server.options import RayOptions, ServerOptions
from text23d.service.server.ray_pool import RayPool
from text23d.service.server.store import Store

pytestmark = pytest.mark.needs("ray")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each on this machine."""
    from ray.cluster_utils import Cluster

    for name, value in environment().items():
        monkeypatch.setenv(name, value)  # which nodes hand on to the processes that they start
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def test_jobs_are_made_on_both_nodes_and_go_on_when_one_is_lost(cluster: Any, tiny_prior: Path, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    ray = ("server.workers=ray", f"server.ray.address={cluster.address}", "server.ray.workers=2", "server.ready=false")
    more = (f"server.database=sqlite:///{tmp_path}/jobs.sqlite", "server.limits.running=4")
    with serving(folder, [*settings(tiny_prior), *ray, *more, "server.limits.iterations=5000"]) as served:
        jobs = [served.submit(iterations=150) for _ in range(2)]
        awaited(lambda: all(is_at_work(served, job) for job in jobs) or None, 120)
        workers = {row["worker"] for row in Store(sqlite(tmp_path / "jobs.sqlite")).changed(0.0)}
        assert len(workers) == 2, "each node has room for one worker"
        cluster.remove_node(cluster.second)
        assert [served.until(job, seconds=120)["state"] for job in jobs] == ["done", "done"]
        for job in jobs:
            lines = (folder / "jobs" / job / "metrics.jsonl").read_text().count("\n")
            assert lines == 150


def is_at_work(served: Served, job: str) -> bool:
    told = served.job(job)
    return told["state"] == "running" and told["progress"]["iteration"] > 5


def test_a_cluster_that_cannot_serve(tmp_path: Path) -> None:
    store = Store(sqlite(tmp_path / "jobs.sqlite"))
    options = ServerOptions(workers="ray", ray=RayOptions(address="127.0.0.1:1"))
    with pytest.raises(UserError, match="workers on others cannot reach it"):
        RayPool(options, store, tmp_path)
    assert os.path.isdir(tmp_path)
