"""`understudy archive`: keep every second of the past, until ended."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.options import OutDir, S3Uri, duration_s, local_repository, settings_from, target_of
from understudy.cli.output import read_or_not

if TYPE_CHECKING:
    from understudy.backup.pitr.objects import Objects
    from understudy.backup.pitr.service import Service
    from understudy.settings import Settings
    from understudy.valkey.target import Target

_STATUS_EVERY_S = 60.0
_SOON_S = 5.0


def command(
    every: Annotated[str | None, typer.Option(help="Ship what is new so often (ARCHIVE_EVERY; 5s).")] = None,
    keep_days: Annotated[int | None, typer.Option(help="Keep every second so long (ARCHIVE_KEEP_DAYS; 7).")] = None,
    base_every_hours: Annotated[
        float | None, typer.Option(help="Begin a new base so often (ARCHIVE_BASE_EVERY_HOURS; 24).")
    ] = None,
    most_disk: Annotated[
        str | None, typer.Option(help="Hold at most so much here, for example 20GiB (ARCHIVE_MOST_DISK; 10GiB).")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Answer Prometheus on this port of 127.0.0.1 (ARCHIVE_METRICS_PORT; 0: no).")
    ] = None,
    out_dir: OutDir = None,
    s3_uri: S3Uri = None,
    for_: Annotated[str | None, typer.Option("--for", help="End after so long; else it goes on until ended.")] = None,
) -> None:
    """Archive Redis or Valkey as it changes, so that any second of its past can be restored.

    A copy of each primary follows it, and what it writes down goes to S3_URI, or to BACKUP_DIR, every few seconds.
    Ctrl-C or SIGTERM ends it after what is new is shipped. `understudy restore --at TIME` restores a second.

    \b
    Examples:
      understudy archive
      understudy archive --s3-uri s3://my-bucket/redis-backups --keep-days 14
      understudy archive --every 2s --for 10m
    """
    from understudy.backup.encryption import Lock
    from understudy.backup.pitr.service import Plan, Service
    from understudy.operations.audited import recorded

    settings = settings_from(
        out_dir, s3_uri, archive_every=None if every is None else duration_s(every), archive_keep_days=keep_days,
        archive_base_every_hours=base_every_hours, archive_most_disk=most_disk, archive_metrics_port=metrics_port,
    )  # fmt: skip
    ends_after_s = None if for_ is None else duration_s(for_)
    plan = Plan(
        settings.backup_name, settings.profile, settings.archive_every, settings.archive_keep_days,
        settings.archive_base_every_hours * 3600, int(settings.archive_most_disk), Lock.from_settings(settings),
    )  # fmt: skip
    with read_or_not(), ExitStack() as stack:
        teller = _Teller()
        service = Service(_target(settings), _objects(settings), plan, teller.say)
        entry = stack.enter_context(recorded(settings, "archive", ["redis"]))
        place = stack.enter_context(local_repository(settings).scratch("archive"))
        teller.service = service
        if settings.archive_metrics_port:
            from understudy.backup.pitr import metrics

            exporter = metrics.Exporter(
                settings.archive_metrics_port, lambda now_s: metrics.text(service.meters, service.shards, now_s)
            )
            stack.callback(exporter.close)
            teller.say(f"Metrics: http://127.0.0.1:{exporter.port}/metrics")
        teller.first = f"Archiving {service.target} to {service.objects.where}/{service.root}. Ctrl-C ends it."
        _end_when_told(service)
        end = None if ends_after_s is None else time.monotonic() + ends_after_s

        def tick() -> None:
            teller.tick()
            if end is not None and time.monotonic() >= end:
                service.stopped.set()

        service.run(place, tick)
        entry.detail = teller.status()
        teller.say(f"Ended: {teller.status()}.")


def _end_when_told(service: Service) -> None:
    """Have SIGTERM, SIGHUP and the first Ctrl-C end it in order; a second Ctrl-C ends it at once."""

    def told(number: int, _: Any) -> None:
        if service.stopped.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        service.stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, told)


def _target(settings: Settings) -> Target:
    from understudy.valkey.discovery import detect_mode, refuse_wrong_mode
    from understudy.valkey.target import Mode

    target = target_of(settings)
    refuse_wrong_mode(target)
    return target.with_mode(detect_mode(target)) if target.mode is Mode.AUTO else target


def _objects(settings: Settings) -> Objects:
    from understudy.backup.pitr.objects import open_objects
    from understudy.backup.repositories import is_rsync, is_uri, open_repository

    if not settings.backup_s3_uri:
        return open_objects(settings.backup_dir)
    place = settings.backup_s3_uri
    if not is_uri(place) and not is_rsync(place):
        open_repository(place)  # which says so where there is no such directory
    return open_objects(place)


class _Teller:
    """Writes lines with the time, and on a terminal a line of status that is replaced each second."""

    def __init__(self) -> None:
        self.service: Service | None = None
        self.first = ""  # a line to write before the next: nobody archives before the service has the lock
        self._terminal = sys.stdout.isatty()
        self._next = time.monotonic() + _SOON_S

    def say(self, text: str) -> None:
        """Write a line."""
        first, self.first = self.first, ""
        if first:
            self.say(first)
        start = "\r\x1b[K" if self._terminal else ""
        print(f"{start}{time.strftime('%H:%M:%S')} {text}", flush=True)

    def status(self) -> str:
        """Return how it is doing, in one line."""
        from understudy.backup.pitr.status import line

        shards = self.service.shards if self.service else []
        meters = [one for one in self.service.meters if one.shard in shards] if self.service else []
        return line(meters, time.time())

    def tick(self) -> None:
        """Show how it is doing, now and then."""
        if self.first:
            first, self.first = self.first, ""
            self.say(first)
        if self._terminal:
            print(f"\r\x1b[K{self.status()[:200]}", end="", flush=True)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _STATUS_EVERY_S
            self.say(f"{self.status()}.")
