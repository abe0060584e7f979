"""A `crontab` that keeps a file, for machines without cron and so that nobody's real one is touched.

It was compared with Debian's: `-l` of none says `no crontab for USER` and ends with 1; a table whose last line has no
end is refused, as is a line with more than 998 bytes of command; `-r` removes it. And what cron makes of a line.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PROGRAM = f"""#!{sys.executable} -S
import os, pathlib, sys
spool = pathlib.Path(os.environ["CRONTAB_SPOOL"])
if os.environ.get("CRONTAB_DENIED"):
    sys.exit("You (user) are not allowed to use this program (crontab)")
if sys.argv[1:] == ["-l"]:
    if not spool.exists():
        sys.exit("no crontab for user")
    sys.stdout.buffer.write(spool.read_bytes())
elif sys.argv[1:] == ["-r"]:
    spool.unlink()
elif sys.argv[1:] == ["-"]:
    text = sys.stdin.buffer.read()
    if os.environ.get("CRONTAB_BROKEN"):
        sys.exit("/var/spool/cron: No space left on device")
    if text and not text.endswith(b"\\n"):
        sys.exit("new crontab file is missing newline before EOF, can't install.")
    if any(len(line.split(b" ", 5)[-1]) > 998 for line in text.split(b"\\n") if line[:1].isdigit()):
        sys.exit("command too long, errors in crontab file, can't install.")
    spool.write_bytes(text)
else:
    sys.exit(2)
"""


def standin(folder: Path) -> dict[str, str]:
    """Write the program; return the environment in which it is found first. Its table is `folder/spool`."""
    programs = folder / "programs"
    programs.mkdir()
    path = programs / "crontab"
    path.write_text(PROGRAM)
    path.chmod(0o700)
    return {"PATH": f"{programs}:{os.environ['PATH']}", "CRONTAB_SPOOL": str(folder / "spool")}


def executed(line: str) -> str:
    """Return what cron gives to `sh -c` for a line (do_command.c of Vixie cron: `%` ends it, `\\%` is one)."""
    command, found, escaped = line.split(" ", 5)[5], "", False
    for letter in command:
        if escaped:
            found = found[:-1] + "%" if letter == "%" else found + letter
            escaped = False
            continue
        if letter == "%":
            break
        escaped = letter == "\\"
        found += letter
    return found
