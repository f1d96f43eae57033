"""The tiny corpus, recipe and store of the training tests, for every executor; a Ray cluster."""

from importlib.util import find_spec

import pytest

from train.conftest import dataset, recipe, store

__all__ = ["dataset", "ray_cluster", "recipe", "store"]

RAY = find_spec("ray") is not None


@pytest.fixture(scope="session")
def ray_cluster():
    """A Ray cluster of one node with two CPUs on this machine, for all tests that need one."""
    if not RAY:
        pytest.skip("ray is not installed")
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # a machine short of memory is not at test
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster
    cluster.shutdown()
    patch.undo()
