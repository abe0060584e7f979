"""Figures for Prometheus' textfile collector (of the node exporter): written as one file that is replaced whole.

The file is the only thing that we write which everybody may read: it holds times and sizes, and no secret.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from understudy.errors import UnreachableError

READABLE = 0o644  # the node exporter is another user
_NAMES: Mapping[str, str] = {
    "understudy_backup_last_success_timestamp_seconds": "When the newest good set of a tier was taken",
    "understudy_backup_last_run_timestamp_seconds": "When the last scheduled run of a tier began",
    "understudy_backup_last_run_success": "Whether the last scheduled run of a tier went well",
    "understudy_backup_set_bytes": "Bytes of the newest good set of a tier",
    "understudy_backup_duration_seconds": "How long the last scheduled run of a tier took",
    "understudy_backup_sets": "Sets that are kept, by tier",
    "understudy_backup_missed_runs": "Runs of a tier that were due and did not happen since its last run",
    "understudy_backup_free_bytes": "Free space on the disk of the sets",
    "understudy_backup_healthy": "Whether health-check finds nothing bad",
    "understudy_backup_check_healthy": "Whether one item of health-check is not bad",
    "understudy_backup_offsite_last_success_timestamp_seconds": "When the newest set in an off-site place was taken",
    "understudy_rehearsal_last_success_timestamp_seconds": "When the last rehearsal that passed began",
    "understudy_backup_written_timestamp_seconds": "When these figures were written",
}


@dataclass
class Figures:
    """Values by name and labels. Names are checked, so that documentation and file agree."""

    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)

    def put(self, name: str, value: float | bool | None, **labels: str) -> None:
        """Note a value; None is none, and is left out."""
        if name not in _NAMES:
            raise KeyError(name)
        if value is not None:
            self.values[name, tuple(sorted(labels.items()))] = float(value)

    def text(self) -> str:
        """Return the exposition format, sorted."""
        lines: list[str] = []
        for name, meaning in _NAMES.items():
            rows = [(labels, value) for (its_name, labels), value in sorted(self.values.items()) if its_name == name]
            if rows:
                lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
                lines += [f"{name}{_labels(labels)} {value!r}" for labels, value in rows]
        return "".join(f"{line}\n" for line in lines)


def names() -> list[str]:
    """Return every figure's name."""
    return list(_NAMES)


def write(path: Path, figures: Figures) -> None:
    """Replace the file: a reader sees the old figures or the new ones.

    Raises:
        UnreachableError: it cannot be written; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # the collector reads `*.prom` only
    try:
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, READABLE), "w") as file:
                os.fchmod(file.fileno(), READABLE)  # whatever the umask says
                file.write(figures.text())
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UnreachableError(
            f"writing the metrics file {path}", error.strerror or str(error), "Check BACKUP_METRICS_FILE (--metrics)."
        ) from error


def _labels(pairs: Sequence[tuple[str, str]]) -> str:
    if not pairs:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}"


def _escaped(value: str) -> str:
    plain = value.encode(errors="replace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
