"""The image's health check: a server that was started in this container answers; anything else is well while it runs.

Asked of the first process's command line, because one image runs all commands: `probe` and `waitingroom` must answer
HTTP, whatever the answer says of the servers behind them (a Redis that is down is not mended by restarting the probe).
`--host` and `--port` count as the command counts them. Exit code 0 is healthy, 1 is not, and a line says why.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PATHS = {"probe": "/openapi.json", "waitingroom": "/healthz"}
PORTS = {"probe": ("PORT", 3000), "waitingroom": ("WAITINGROOM_PORT", 8080)}
_TIMEOUT_S = 4
_EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - what a server may listen on, asked through loopback


def asked_at(words: Sequence[str], env: Mapping[str, str]) -> tuple[str, int, str] | None:
    """Return host, port and path of what these words serve, or None where they serve nothing over HTTP."""
    command = next((word for word in words if word in PATHS), None)
    if command is None:
        return None
    name, default = PORTS[command]
    host = _option(words, "--host") or "127.0.0.1"
    port = _option(words, "--port") or env.get(name) or str(default)
    return "127.0.0.1" if host in _EVERYWHERE else host, int(port), PATHS[command]


def _option(words: Sequence[str], name: str) -> str | None:
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return after
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def main() -> int:
    """Ask, and return the exit code."""
    words = Path("/proc/1/cmdline").read_bytes().decode(errors="replace").split("\0")
    asked = asked_at(words, os.environ)
    if asked is None:
        return 0
    host, port, path = asked
    try:
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"http://{host}:{port}{path}: {error}\n")
        return 1
    sys.stdout.write(f"http://{host}:{port}{path}: {status}\n")
    return 0 if status < 500 else 1


if __name__ == "__main__":
    sys.exit(main())
