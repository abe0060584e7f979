"""Read the big keys of one task into files of commands, and note a line for each."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

from understudy.backup.big.format import BigKey
from understudy.lab.memory import available_bytes
from understudy.valkey.dump import Dumped, Dumper
from understudy.valkey.router import Router
from understudy.valkey.slices.still import RestlessError, read_still
from understudy.valkey.slots import key_slot

_MOST_WHOLE_BYTES = 512 << 20  # what servers take back as one argument, unless told otherwise
_HELD_AT_ONCE = 6  # times a payload is in memory while its line is written: as bytes, in base64, in a line


class BigKeys:
    """The files of big keys, as they are read. `rows` has a line of the index for each, and its SHA-256."""

    def __init__(self, work: Path, stem: str, slice_bytes: int) -> None:
        self._work, self._stem, self._slice_bytes = work, stem, slice_bytes
        self.rows: list[dict[str, Any]] = []
        self.types: Counter[str] = Counter()
        self.restless: list[str] = []

    def read(self, router: Router, dumper: Dumper, key: bytes, db: int) -> Dumped | None:
        """Read one key into a file of its own; or return it as a payload, where it did not stand still.

        A key that neither way could read is noted in `restless`; one that is gone is counted by the dumper.
        """
        writer = _Writer(self._work / f"{self._stem}-{len(self.rows):05d}.resp")
        try:
            with writer:
                still = read_still(router, key, self._slice_bytes, writer.begin, writer.put)
        except RestlessError as error:
            writer.path.unlink()
            return self._whole(router, dumper, key, str(error))
        except BaseException:
            writer.path.unlink(missing_ok=True)
            raise
        if still is None:
            writer.path.unlink()
            dumper.gone += 1
            return None
        big = BigKey(
            key, db, still.kind, still.expire_at_ms, writer.path.name, writer.commands, still.length, writer.size
        )
        self.rows.append(big.as_data() | {"sha256": writer.sha256.hexdigest()})
        self.types[still.kind] += 1
        return None

    def _whole(self, router: Router, dumper: Dumper, key: bytes, why: str) -> Dumped | None:
        """Dump a key that did not stand still: a DUMP is one moment. Only where it is not too big for that."""
        size = router.execute([(key_slot(key), ("MEMORY", "USAGE", key))]).values[0]
        there = available_bytes()
        most = _MOST_WHOLE_BYTES if there is None else min(_MOST_WHOLE_BYTES, there // _HELD_AT_ONCE)
        if size is None:
            dumper.gone += 1
            return None
        if not isinstance(size, int) or size > most:
            taken = f"{size:,}" if isinstance(size, int) else "unknown"
            self.restless.append(f"{key[:200]!r}: {why}; it takes {taken} bytes, too many for one DUMP")
            return None
        return next(dumper.read_whole(key), None)

    def discard(self) -> None:
        """Remove the files."""
        for row in self.rows:
            (self._work / row["file"]).unlink(missing_ok=True)


class _Writer:
    """One file, hashed as it is written; every byte is on the disk at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")

    def begin(self) -> None:
        """Begin again with an empty file."""
        self._file.seek(0)
        self._file.truncate()
        self.size = self.commands = 0
        self.sha256 = hashlib.sha256()

    def put(self, packed: bytes, commands: int) -> None:
        """Write so many commands."""
        self._file.write(packed)
        self.sha256.update(packed)
        self.size += len(packed)
        self.commands += commands

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
