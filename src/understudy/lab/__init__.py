"""How do I run the real thing here?

    from understudy import lab

    with lab.cluster() as cluster:
        cluster.kill("node-1")

Labs that `understudy up` started are found with `find`, `running` and `default_target`.
"""

from understudy.lab.live import Lab
from understudy.lab.named import default_target, find, running
from understudy.lab.server import LabNode
from understudy.lab.temporary import cluster, enterprise, sentinel, standalone

__all__ = [
    "Lab",
    "LabNode",
    "cluster",
    "default_target",
    "enterprise",
    "find",
    "running",
    "sentinel",
    "standalone",
]
