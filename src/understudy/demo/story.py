"""The story: a sale outlives its primary; then everything is backed up, lost, restored, compared and rehearsed."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from understudy import lab
from understudy.backup.check import check
from understudy.backup.components.redis import RedisComponent
from understudy.backup.take import take
from understudy.demo import answers
from understudy.demo.census import take_census
from understudy.demo.fill import fill
from understudy.demo.lose import lose_and_restore
from understudy.demo.outcome import Outcome
from understudy.demo.place import SET_NAME, Place
from understudy.demo.rehearse import rehearse
from understudy.demo.seen import Machine, SetSeen, ShardSeen
from understudy.demo.sell import sell_and_kill
from understudy.demo.steps import Steps
from understudy.demo.tell import Teller
from understudy.demo.verdict import judge, overall
from understudy.pages.figures import count, size
from understudy.progress import Progress, stage
from understudy.valkey.discovery import server_version
from understudy.valkey.router import Router

PROFILE = "local"


def run(place: Place, keys: int, buyers: int, progress: Progress, teller: Teller) -> Outcome:
    """Tell the whole story with so many keys and buyers, and return what was done and found.

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

        with step("record", "Record digests") as says:
            filled = take_census(router, progress, written)
            says.figure = f"DEBUG DIGEST-VALUE of {count(len(filled.digests), 'key')}"
            says.amount, says.unit = len(filled.digests), "keys"

        sold, remains, before = sell_and_kill(step, cluster, buyers, filled, progress)
        held = len(before.digests)

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

        back = lose_and_restore(step, cluster, component, taken, before, sold.event, remains, progress)
        rehearsal = rehearse(step, taken, place, sold.event, back.seats.sold, cluster.directory, progress)

        restore_verdict = judge(
            keys=held,
            in_set=seen.keys,
            keys_after_wipe=back.keys_after_wipe,
            functions_after_wipe=back.functions_after_wipe,
            restored=back.restored,
            verified=back.verified,
            digests=back.digests,
            functions_same=back.functions_same,
            seats=back.seats,
            rehearsal=rehearsal.verdict,
        )
        return Outcome(
            verdict=overall(sold.came_back, restore_verdict, sold.kept),
            answers=(
                answers.came_back(sold),
                answers.restores(restore_verdict, held, back.digests, rehearsal),
                answers.sold_twice(sold, back.seats),
            ),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=Machine.here(f"{name} {version}"),
            steps=tuple(step.done),
            shards=shards,
            keys=held,
            filled=written,
            types=dict(before.types.most_common()),
            kinds=dict(sorted(before.kinds.items())),
            expiring=len(before.ends),
            functions=len(set(before.functions)),
            backup=seen,
            keys_after_wipe=back.keys_after_wipe,
            restored=back.restored,
            verified=back.verified,
            digests=back.digests,
            sold=sold,
            seats=back.seats,
            rehearsal=rehearsal,
        )
