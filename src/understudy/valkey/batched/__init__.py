"""Many small commands of concurrent callers, fast: what they ask in one turn of the event loop is sent in one write.

    client = BatchedClient(target)
    await client.start()
    await client.execute(("ZADD", "queue:{concert}", 1, "ann"), "queue:{concert}", within_s=2.0, acknowledged_by=1)

Look first at `client.py` (who answers for a call), then `connection.py` (bytes out, replies in), `commit.py` (replicas
acknowledge), `watch.py` and `owners.py` (who is primary now), `node.py` (connections that come back).
"""

from understudy.valkey.batched.client import BatchedClient
from understudy.valkey.batched.commit import UnacknowledgedError

__all__ = ["BatchedClient", "UnacknowledgedError"]
