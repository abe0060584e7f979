"""The story: a real cluster is filled, backed up, lost, restored and verified; then a primary dies under load."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from understudy import lab
from understudy.backup.check import check
from understudy.backup.component import RestoreOptions
from understudy.backup.components.redis import RedisComponent
from understudy.backup.restore import restore
from understudy.backup.take import take
from understudy.backup.verify import verify
from understudy.demo.census import functions, key_count, take_census
from understudy.demo.fill import fill
from understudy.demo.kill import kill_a_primary
from understudy.demo.outcome import Outcome
from understudy.demo.place import SET_NAME, Place
from understudy.demo.seen import Machine, SetSeen, ShardSeen
from understudy.demo.steps import Steps
from understudy.demo.tell import Teller
from understudy.demo.verdict import Digests, judge, overall
from understudy.lab import sample
from understudy.pages.figures import count, size
from understudy.progress import Progress, stage
from understudy.valkey.discovery import server_version
from understudy.valkey.router import Router

PROFILE = "local"


def run(place: Place, keys: int, progress: Progress, teller: Teller) -> Outcome:
    """Tell the whole story with so many keys, and return what was done and found.

    The cluster is gone afterwards, in every case. Interrupted or failed, it leaves no set of its own behind.

    Raises:
        UnderstudyError: of the kind that fits, where a step could not be done at all.
    """
    step = Steps(teller)
    with contextlib.ExitStack() as stack:
        with step("start", "Start a cluster") as says, stage(progress, "Starting six servers", None, "servers"):
            cluster = stack.enter_context(lab.cluster())
            target = cluster.target()
            router = stack.enter_context(Router(target))
            name, version = server_version(router.wire(target.seeds[0]))
            ports = sorted(node.address.port for node in cluster.nodes)
            replicas = sum(len(shard.replicas) for shard in router.topology.shards)
            says.figure = (
                f"{len(router.topology.shards)} primaries + {replicas} replicas, {name} {version}, "
                f"ports {ports[0]}-{ports[-1]}"
            )

        with step("fill", "Fill") as says:
            fill(target, keys, progress)
            shards = tuple(ShardSeen.of_cluster(cluster, router))
            written = sum(shard.keys for shard in shards)
            says.figure, says.amount, says.unit = f"{count(written, 'key')} and a function library", written, "keys"

        component = RedisComponent(target)
        stack.callback(component.close)
        with step("backup", "Back up") as says:
            taken = take([component], place.repository, None, PROFILE, progress, name=SET_NAME)
            stack.enter_context(place.unless_unfinished(taken.backup.metadata.id))
            seen = SetSeen.of(taken)
            says.figure = f"{count(seen.keys, 'key')}, {size(seen.size)}; archive {size(seen.archive_size)}"
            says.amount, says.unit = seen.keys, "keys"

        with step("check", "Check the set") as says:
            checked = check(taken.backup, progress)
            says.figure = f"whole: {count(len(seen.files), 'file')}, every checksum, {count(checked, 'record')} read"

        with step("record", "Record digests") as says:
            before = take_census(router, progress, written)
            says.figure = f"DEBUG DIGEST-VALUE of {count(len(before.digests), 'key')}"
            says.amount, says.unit = len(before.digests), "keys"

        with step("wipe", "Lose everything") as says:
            sample.wipe(router)
            left, left_functions = key_count(router), functions(router)
            says.figure = (
                f"DBSIZE {written:,} -> {left:,}, functions {len(set(before.functions))} -> {len(set(left_functions))}"
            )
            says.good = not (left or left_functions)

        with step("restore", "Restore") as says:
            restored = restore(taken.backup, [component], RestoreOptions(), progress)[component.name]
            says.figure = f"{restored.restored:,} restored, {restored.failed:,} failed; DBSIZE {key_count(router):,}"
            says.good = not restored.failed
            says.amount, says.unit = restored.restored, "keys"

        with step("verify", "Verify in full") as says:
            verified = verify(taken.backup, target, progress, sample=None)
            says.figure = (
                f"missing={verified.missing}, ttl_mismatch={verified.ttl_mismatch}, "
                f"value_mismatch={verified.value_mismatch}, extra={verified.extra}"
            )
            says.good = verified.clean
            says.amount, says.unit = verified.compared, "keys"

        with step("compare", "Compare digests") as says:
            after = take_census(router, progress, written)
            digests = Digests.compare(before.digests, after.digests)
            says.figure = f"{digests.equal:,} of {len(before.digests):,} equal"
            says.good = digests.all_equal
            says.amount, says.unit = digests.compared, "keys"

        failover = kill_a_primary(step, cluster, after, progress)

        restore_verdict = judge(
            keys=written,
            in_set=seen.keys,
            keys_after_wipe=left,
            functions_after_wipe=len(set(left_functions)),
            restored=restored,
            verified=verified,
            digests=digests,
            functions_same=before.functions == after.functions,
        )
        return Outcome(
            verdict=overall(restore_verdict, failover.verdict),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=Machine.here(f"{name} {version}"),
            steps=tuple(step.done),
            shards=shards,
            keys=written,
            types=dict(before.types.most_common()),
            kinds=dict(sorted(before.kinds.items())),
            expiring=before.expiring,
            functions=len(set(before.functions)),
            backup=seen,
            keys_after_wipe=left,
            restored=restored,
            verified=verified,
            digests=digests,
            failover=failover,
        )
