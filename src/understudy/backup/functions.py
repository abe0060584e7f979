"""Server-side functions: every library, read from all primaries and loaded on all primaries."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable

import orjson

from understudy.backup.component import RestoreOptions, RestoreReport
from understudy.errors import IncompleteError, IntegrityError
from understudy.valkey.router import Router
from understudy.valkey.target import Mode
from understudy.valkey.wire import Reply, ReplyError, error_for

FUNCTIONS = "functions/libraries.jsonl"  # where they are in a set
Library = tuple[str, bytes]  # its name and its code


def read(router: Router) -> tuple[list[Library], str]:
    """Return the libraries of a stack, and a warning where they could not be read; none before Redis 7.0.

    Raises:
        IncompleteError: two primaries hold different code under one name; which one is meant, nobody can tell.
    """
    if router.target.mode is Mode.ENTERPRISE:
        return [], "functions are not in this set: a proxy hides them"
    found: dict[str, bytes] = {}
    for reply in router.on_primaries("FUNCTION", "LIST", "WITHCODE"):
        if isinstance(reply, ReplyError):
            if "unknown command" in str(reply).lower():
                return [], ""  # older than 7.0: there are none
            raise error_for(router.target.seeds[0], ("FUNCTION", "LIST"), reply)
        for name, code in map(_library, reply):
            if found.setdefault(name, code) != code:
                raise IncompleteError(
                    f"reading the function library {name!r}", "primaries hold different code under this name",
                    "Load the same version on every primary (FUNCTION LOAD REPLACE), then run the backup again.",
                )  # fmt: skip
    return sorted(found.items()), ""


def _library(reply: Reply) -> Library:
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    return fields[b"library_name"].decode(), fields[b"library_code"]


def encode(libraries: Iterable[Library]) -> bytes:
    """Return one JSON line a library."""
    return b"".join(
        orjson.dumps({"library": name, "code_b64": b2a_base64(code, newline=False).decode()}) + b"\n"
        for name, code in libraries
    )


def decode(data: bytes, where: str) -> list[Library]:
    """Read what `encode` wrote. Raises `IntegrityError` where it is damaged."""
    try:
        rows = [orjson.loads(line) for line in data.splitlines()]
        return [(str(row["library"]), a2b_base64(row["code_b64"], strict_mode=True)) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"reading {where}", "it holds no function libraries") from error


def write(router: Router, libraries: Iterable[Library], options: RestoreOptions, report: RestoreReport) -> None:
    """Load libraries on every primary; one that exists is kept unless `overwrite`."""
    replace = ["REPLACE"] if options.overwrite else []
    kept = _everywhere(router) if options.dry_run and not replace else set()
    for name, code in libraries:
        if name in kept:
            report.functions_kept += 1
            continue
        replies = [] if options.dry_run else router.on_primaries("FUNCTION", "LOAD", *replace, code)
        problems = [str(reply) for reply in replies if isinstance(reply, ReplyError)]
        others = [one for one in problems if not (one.startswith("ERR Library") and "already exists" in one)]
        if others:
            report.fail(f"function library {name}: {others[0]}")
        elif problems and len(problems) == len(replies):
            report.functions_kept += 1
        else:
            report.functions += 1


def _everywhere(router: Router) -> set[str]:
    """Return the names of the libraries that stand on every primary; of none that a proxy hides."""
    replies = router.on_primaries("FUNCTION", "LIST")
    if not replies or any(isinstance(reply, ReplyError) for reply in replies):
        return set()
    named = [
        {dict(zip(one[::2], one[1::2], strict=True))[b"library_name"].decode() for one in reply} for reply in replies
    ]
    return set.intersection(*named)
