"""The second night: everything is lost and restored, and every key and every sold seat is compared."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.backup.component import RestoreOptions, RestoreReport
from understudy.backup.components.redis import RedisComponent
from understudy.backup.restore import restore
from understudy.backup.take import TakenSet
from understudy.backup.verify import verify
from understudy.backup.verify_report import VerifyReport
from understudy.demo.census import Census, functions, key_count, take_census
from understudy.demo.seats import Seats
from understudy.demo.steps import Steps
from understudy.demo.verdict import Digests
from understudy.errors import IncompleteError
from understudy.lab import Lab, sample
from understudy.progress import Progress
from understudy.sale.record import Remains
from understudy.sale.remains import read_remains
from understudy.valkey.router import Router


@dataclass(frozen=True)
class Back:
    """What was left after the wipe, and what the restore brought back."""

    keys_after_wipe: int
    functions_after_wipe: int
    restored: RestoreReport
    verified: VerifyReport
    digests: Digests
    functions_same: bool
    seats: Seats


def lose_and_restore(
    step: Steps, cluster: Lab, component: RedisComponent, taken: TakenSet, before: Census,
    event: str, sold: Remains | None, progress: Progress,
) -> Back:  # fmt: skip
    """Wipe the cluster, restore the set, and compare with what was there before.

    Raises:
        UnderstudyError: of the kind that fits, where a step could not be done at all.
    """
    held = len(before.digests)
    with Router(cluster.target()) as router:
        with step("wipe", "Lose everything") as says:
            sample.wipe(router)
            left, left_functions = key_count(router), functions(router)
            says.figure = (
                f"DBSIZE {held:,} -> {left:,}, functions {len(set(before.functions))} -> {len(set(left_functions))}"
            )
            says.good = not (left or left_functions)

        with step("restore", "Restore") as says:
            restored = restore(taken.backup, [component], RestoreOptions(), progress)[component.name]
            says.figure = f"{restored.restored:,} restored, {restored.failed:,} failed; DBSIZE {key_count(router):,}"
            says.good = not restored.failed
            says.amount, says.unit = restored.restored, "keys"

        with step("verify", "Verify in full") as says:
            verified = verify(taken.backup, cluster.target(), progress, sample=None)
            says.figure = (
                f"missing={verified.missing}, ttl_mismatch={verified.ttl_mismatch}, "
                f"value_mismatch={verified.value_mismatch}, extra={verified.extra}"
            )
            says.good = verified.clean
            says.amount, says.unit = verified.compared, "keys"

        with step("compare", "Compare digests") as says:
            after = take_census(router, progress, held)
            digests = Digests.compare(before.digests, after.digests, before.expired(after))
            says.figure = f"{digests.equal:,} of {held:,} equal"
            says.good = digests.all_equal
            says.amount, says.unit = digests.compared, "keys"

        with step("seats", "Compare seats") as says:
            seats = Seats.compare(sold, _event(cluster, event))
            says.figure = f"{seats.same:,} of {seats.sold:,} sold seats belong to the buyer who had them"
            says.good = seats.all_same
    same = set(before.functions) == set(after.functions) and len(after.functions) >= len(before.functions)
    return Back(left, len(set(left_functions)), restored, verified, digests, same, seats)


def _event(cluster: Lab, event: str) -> Remains | None:
    try:
        return read_remains(cluster, event)
    except IncompleteError:
        return None  # nothing of it is there: no seat is sold to anybody
