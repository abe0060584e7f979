"""How do I run the real thing here?

from understudy import lab

with lab.cluster() as cluster:
    cluster.kill("node-1")
"""

from understudy.lab.running import Lab
from understudy.lab.server import LabNode
from understudy.lab.temporary import cluster, enterprise, sentinel, standalone

__all__ = ["Lab", "LabNode", "cluster", "enterprise", "sentinel", "standalone"]
