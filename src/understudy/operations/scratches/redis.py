"""A Valkey server for a rehearsal of the redis component; sets of clusters, too, are restored into one server."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import Iterator
from typing import Any

from understudy.backup.component import RestoreOptions
from understudy.backup.components.redis import RedisComponent
from understudy.backup.set import BackupSet
from understudy.errors import IntegrityError, UnderstudyError
from understudy.operations.rehearsal.checks import Check
from understudy.operations.scratch import NoScratchError, Scratch
from understudy.settings import Settings
from understudy.valkey.payload import newest_readable, written_by
from understudy.valkey.target import Target
from understudy.valkey.wire import Wire

_FOREIGN = range(12, 80)  # Valkey refuses these RDB versions: they are Redis' own
_ANOTHER = "UNDERSTUDY_SERVER names another server"


@contextlib.contextmanager
def scratch(backup: BackupSet, settings: Settings) -> Iterator[Scratch]:  # noqa: ARG001 - the shape of every scratch
    """Run a server with a password of its own and as many databases as the set needs."""
    recorded = backup.metadata.components["redis"]
    password = secrets.token_hex(16)
    try:
        from understudy import lab  # noqa: PLC0415 - the lab is an extra
        from understudy.lab.servers.valkey import find_binary  # noqa: PLC0415

        binary = find_binary()
        _refuse_unreadable(recorded.get("rdb_versions", []), binary.name, ".".join(map(str, binary.version)))
        databases = max(16, *(db + 1 for db in recorded.get("databases", [])), 0)
        running = contextlib.ExitStack()
        server = running.enter_context(lab.standalone(password=password, databases=databases))
    except (ImportError, UnderstudyError) as error:
        raise NoScratchError(f"no server could be started for it: {error}") from error
    with running:
        target = server.target()
        component = _Component(target)
        running.callback(component.close)
        yield Scratch(
            component,
            f"{str(binary).capitalize()}, started for it",
            lambda _: {"REDIS_URL": server.env()["REDIS_URL"]},
            (password,),
            lambda check: ask(target, check),
        )


class _Component(RedisComponent):
    """Versions were compared when the server was chosen, so that a payload which it refuses is damaged."""

    def check_target(self, backup: BackupSet, options: RestoreOptions) -> None:
        """Leave it to the restore to name a key that cannot be read."""
        with contextlib.suppress(IntegrityError):
            super().check_target(backup, options)


def _refuse_unreadable(versions: list[int], name: str, version: str) -> None:
    newest = newest_readable(name, version)
    for needed in versions:
        if (newest and needed > newest) or (name == "valkey" and needed in _FOREIGN):
            raise NoScratchError(
                f"its keys are of RDB version {needed} (written by {written_by(needed)}), which {name} {version} "
                f"does not read; {_ANOTHER}"
            )


def ask(target: Target, check: Check) -> Any:
    """Run a check's command; bytes come back as text. Raises `UnderstudyError` for an error or no answer in time."""
    there = dataclasses.replace(target, db=check.database if isinstance(check.database, int) else 0)
    with contextlib.closing(Wire(target.seeds[0], there, check.timeout_s)) as wire:
        return _readable(wire.call(*check.ask))


def _readable(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode(errors="replace")
    return [_readable(one) for one in reply] if isinstance(reply, list) else reply
