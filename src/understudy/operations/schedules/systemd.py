"""systemd timers: a service and a timer for each tier; of the user, or of the system where root installs them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import ClassVar

from understudy.backup.durable import write_file
from understudy.errors import UnderstudyError, UnreachableError
from understudy.operations.crontime import CronTime
from understudy.operations.schedule import Change, Plan
from understudy.operations.tier import Tier

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_SYSTEM_UNITS = Path("/etc/systemd/system")
_TIME = re.compile(r"^# cron: (.*)$", re.MULTILINE)
_TIMEOUT_S = 60
_MODE = 0o644  # nothing secret stands in a unit


class Systemd:
    """Unit files; a run that the machine slept through is made up for when it is on again."""

    name: ClassVar[str] = "systemd"
    program: ClassVar[str] = "systemctl"

    def installed(self, key: str) -> dict[str, str]:
        """Return tier and cron time of each timer of this key."""
        found = {}
        for path in sorted(_folder().glob(f"understudy-{key}-*.timer")):
            with contextlib.suppress(OSError):
                time = _TIME.search(path.read_text(errors="replace"))
                found[path.stem.rpartition("-")[2]] = time[1] if time else ""
        return found

    def install(self, plan: Plan, *, dry_run: bool = False) -> Change:
        """Write the units that are not there yet, take away those of tiers that are off, and start the timers."""
        units = {
            name: text
            for tier, time in plan.times.items()
            for name, text in (
                (f"understudy-{plan.key}-{tier}.service", service(plan, tier)),
                (f"understudy-{plan.key}-{tier}.timer", timer(plan, tier, time)),
            )
        }
        text = "\n".join(f"# {_folder() / name}\n{unit}" for name, unit in units.items())
        before = {path.name: path.read_text(errors="replace") for path in _of(plan.key)}
        if before == units:
            return Change(False, text, _started(list(units)) if not dry_run else ())
        if dry_run:
            return Change(True, text)
        gone = [name for name in before if name not in units]
        to_do = _stop([name for name in gone if name.endswith(".timer")])
        try:
            _folder().mkdir(parents=True, exist_ok=True)
            for name in gone:
                (_folder() / name).unlink(missing_ok=True)
            for name, unit in units.items():
                _write(_folder() / name, unit)
        except OSError as error:
            with contextlib.suppress(OSError):
                for path in _of(plan.key):
                    path.unlink()
                for name, unit in before.items():
                    _write(_folder() / name, unit)
            raise _unwritable(error) from error
        return Change(True, text, (*to_do, *_started(list(units))))

    def remove(self, key: str, *, dry_run: bool = False) -> Change:
        """Stop the timers and delete the units."""
        units = _of(key)
        text = "\n".join(str(path) for path in units)
        if dry_run or not units:
            return Change(bool(units), text)
        timers = [path.name for path in units if path.suffix == ".timer"]
        stopped = not _systemctl("disable", "--now", *timers)
        try:
            for path in units:
                path.unlink(missing_ok=True)
                (_folder() / "timers.target.wants" / path.name).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(error) from error
        reload = _systemctl("daemon-reload")
        to_do = () if stopped else (_typed("stop", *timers),)
        return Change(True, text, (reload, *to_do) if reload else to_do)


def on_calendar(time: CronTime) -> list[str]:
    """Return a cron time as expressions for OnCalendar; systemd runs at the times of all of them together."""
    hours, minutes = _listed(time.hours, 24), _listed(time.minutes, 60)
    date = f"*-{_listed(time.months, 12)}-"
    days = date + _listed(time.days, 31)
    weekdays = ",".join(_DAYS[day] for day in sorted(time.weekdays)) if len(time.weekdays) < 7 else ""
    clock = f"{hours}:{minutes}:00"
    if time.either_day and weekdays and len(time.days) < 31:
        return [f"{days} {clock}", f"{weekdays} {date}* {clock}"]
    if time.either_day:  # one of the two names every day there is
        return [f"{date}* {clock}"]
    return [f"{weekdays} {days} {clock}".strip()]


def _listed(values: frozenset[int], every: int) -> str:
    return "*" if len(values) == every else ",".join(f"{value:02d}" for value in sorted(values))


def service(plan: Plan, tier: Tier) -> str:
    """Return the unit that runs a tier once."""
    return f"""\
# understudy {plan.key}: written by `understudy schedule install`, taken away by `understudy schedule remove`
[Unit]
Description=The {tier} backup of {_plain(plan.title)}

[Service]
Type=oneshot
ExecStart=/bin/sh -c {_quoted(plan.command(tier))}
"""


def timer(plan: Plan, tier: Tier, time: CronTime) -> str:
    """Return the unit that says when."""
    when = "\n".join(f"OnCalendar={one}" for one in on_calendar(time))
    return f"""\
# understudy {plan.key}: written by `understudy schedule install`, taken away by `understudy schedule remove`
# cron: {time.text}
[Unit]
Description=When the {tier} backup of {_plain(plan.title)} runs

[Timer]
{when}
Persistent=true

[Install]
WantedBy=timers.target
"""


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    r"""Return a text as one word of ExecStart: there `\`, `"`, `%` and `$` mean something."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"'


def _is_system() -> bool:
    return os.geteuid() == 0 and not os.environ.get("XDG_CONFIG_HOME")


def _folder() -> Path:
    if _is_system():
        return _SYSTEM_UNITS
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _of(key: str) -> list[Path]:
    return sorted(path for path in _folder().glob(f"understudy-{key}-*") if path.suffix in {".service", ".timer"})


def _started(units: list[str]) -> tuple[str, ...]:
    timers = [name for name in units if name.endswith(".timer")]
    failed = [one for one in (_systemctl("daemon-reload"), _systemctl("enable", "--now", *timers)) if one]
    if not _is_system():
        failed.append("loginctl enable-linger   (once: else your timers run only while you are logged in)")
    return tuple(failed)


def _write(path: Path, unit: str) -> None:
    write_file(path, unit.encode(errors="surrogateescape"), _MODE)
    path.chmod(_MODE)  # whatever the umask says: systemd complains about units that are hidden


def _stop(timers: list[str]) -> tuple[str, ...]:
    failed = _systemctl("disable", "--now", *timers) if timers else ""
    return (failed,) if failed else ()


def _systemctl(*words: str) -> str:
    """Run systemctl; return nothing, or what is to be typed where systemd cannot be reached (in a container)."""
    try:
        done = subprocess.run(_command(*words), capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return _typed(*words)
    return _typed(*words) if done.returncode else ""


def _command(*words: str) -> list[str]:
    return ["systemctl", *([] if _is_system() else ["--user"]), *words]


def _typed(*words: str) -> str:
    return " ".join(_command(*words))


def _unwritable(error: OSError) -> UnderstudyError:
    return UnreachableError(f"writing units to {_folder()}", error.strerror or str(error), "Check its rights.")
