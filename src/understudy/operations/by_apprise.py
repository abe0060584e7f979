"""Send through Apprise, in a process of its own: it can be ended when it hangs, and what it logs is not seen.

URLs are secrets, so they go to that process through its standard input. Run as `python -m`, it reads one JSON document
and prints a line for every URL that is done: its number, and why it failed or null.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from contextvars import ContextVar

from understudy import installed

_STATUS = re.compile(r"error=(\d{3})")
_NOT_READ = "Apprise cannot read this URL; https://github.com/caronc/apprise/wiki shows how it is written"


def send_all(urls: Sequence[str], title: str, body: str, *, good: bool, deadline_s: float) -> dict[int, str | None]:
    """Send to all URLs at once; return by number why one failed, or None. Those that are missing were too late."""
    task = json.dumps({"urls": list(urls), "title": title, "body": body, "good": good}).encode()
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        said, _ = child.communicate(task, timeout=deadline_s)
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
    except BaseException:
        child.kill()
        child.wait()
        raise
    found: dict[int, str | None] = {}
    for line in said.splitlines(keepends=True):
        if line.endswith(b"\n"):
            number, why = json.loads(line)
            found[number] = why
    if child.returncode > 0:
        return {number: found.get(number, "it failed") for number in range(len(urls))}
    return found


def send(url: str, title: str, body: str, *, good: bool) -> str | None:
    """Send to one URL; return why it failed, without the URL, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import apprise  # noqa: PLC0415 - slow to import, and an extra

            asset = apprise.AppriseAsset(app_id="Understudy", async_mode=False, http_redirects=False)
            teller = apprise.Apprise(asset=asset)
            if not teller.add(url):
                return _NOT_READ
    except ImportError:
        return f"apprise is missing; {installed.how_to_add('operations')}"
    heard = _Heard()
    _heard.set(heard)
    logger = logging.getLogger("apprise")
    logger.propagate = False  # its lines name URLs
    logger.addHandler(heard)
    try:
        kind = apprise.NotifyType.SUCCESS if good else apprise.NotifyType.FAILURE
        done = bool(teller.notify(body, title, kind, apprise.NotifyFormat.TEXT))
    finally:
        logger.removeHandler(heard)
    return None if done else heard.why


class _Heard(logging.Handler):
    """Hears what Apprise says about a failure, and keeps of it only what is no secret."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.why = "it did not take the message"

    def emit(self, record: logging.LogRecord) -> None:
        """Note why."""
        if _heard.get(None) is not self:  # another URL's; Apprise's own threads take the context along
            return
        text = record.getMessage()
        if status := _STATUS.search(text):
            self.why = f"it answered HTTP {status[1]}"
        elif "onnection" in text:
            self.why = "it cannot be reached"


_heard: ContextVar[_Heard] = ContextVar("heard")


def main() -> None:
    """Read the task from standard input, and end without waiting for who hangs."""
    task = json.load(sys.stdin)
    printing = threading.Lock()

    def one(number: int, url: str) -> None:
        try:
            why = send(url, task["title"], task["body"], good=task["good"])
        except Exception as error:  # noqa: BLE001 - its text may hold the URL
            why = f"it failed ({type(error).__name__})"
        with printing:
            sys.stdout.write(json.dumps([number, why]) + "\n")
            sys.stdout.flush()

    # the first import of Apprise is not for several threads at once
    threads = [threading.Thread(target=one, args=pair, daemon=True) for pair in enumerate(task["urls"])]
    send("none://", "", "", good=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0)


if __name__ == "__main__":
    main()
