"""Sets in a directory of another machine, `<directory>/<id>.tar.gz`, through the rsync program.

`user@host:/path` and `host:/path` go over ssh, `rsync://host/module/path` to an rsync daemon. Nobody is there to type a
password: ssh is told so (BatchMode), and a key has to open the door. RSYNC_RSH is used as rsync does, with such options
behind it. rsync (3.1 or newer, here and there) writes to a temporary name and renames: an archive is listed when all of
it is there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from understudy.backup.repository import ARCHIVE_SUFFIX, Advance, StoredSet
from understudy.backup.set import SetId
from understudy.errors import NotAuthorisedError, NotFoundError, UnderstudyError, UnreachableError, UsageError

CONNECT_TIMEOUT_S = 10
SILENCE_S = 60  # of a connection that stands: rsync gives up after that
_SSH = ("-oBatchMode=yes", f"-oConnectTimeout={CONNECT_TIMEOUT_S}", "-oServerAliveInterval=15")
_WORD = r"[A-Za-z0-9_][^/:@\s]*"  # no dash at the beginning: that would be an option
_REMOTE = re.compile(rf"rsync://[^/\s]+/[^\s]+|({_WORD}@)?({_WORD}|\[[0-9a-fA-F:.]+\]):(?!//)\S.*")
_LISTED = re.compile(r"-\S+\s+([\d,.]+)\s+\S+\s+\S+\s+(.+)")
_DONE = re.compile(rb"^\s*([\d,]+)\s+\d+%")
_INSTALL = (
    "Install it: apt install rsync (Debian, Ubuntu), dnf install rsync (Fedora, RHEL), brew install rsync (macOS)."
)
_LOCALE = {"LC_ALL": "C"}  # for what we read of its output

# what ssh, rsync and the daemon say, and what to do about it
_REASONS: tuple[tuple[str, type[UnderstudyError], str, str], ...] = (
    ("Host key verification failed", NotAuthorisedError, "the host's key is not known, or is another than it was",
     "Connect once by hand (ssh HOST) as the user that runs this, and compare the key."),
    ("Permission denied (", NotAuthorisedError, "ssh was refused",
     "A key without a passphrase (or an agent) has to open it: ssh -o BatchMode=yes HOST true"),
    ("auth failed", NotAuthorisedError, "the rsync daemon refused the user or the password",
     "Set RSYNC_PASSWORD, and the user in rsync://user@host/module."),
    ("password file", NotAuthorisedError, "the rsync daemon wants a password", "Set RSYNC_PASSWORD."),
    ("Could not resolve hostname", UnreachableError, "the host is not known", "Check the name, and DNS."),
    ("getaddrinfo", UnreachableError, "the host is not known", "Check the name, and DNS."),
    ("Connection refused", UnreachableError, "nobody listens there", "Is sshd, or the rsync daemon, running there?"),
    ("No route to host", UnreachableError, "there is no way to the host", "Check the network."),
    ("timed out", UnreachableError, "the host does not answer", "Check the network and its firewall."),
    ("timeout in data", UnreachableError, f"nothing moved for {SILENCE_S} s", "Check the network, then try again."),
    ("Unknown module", NotFoundError, "the rsync daemon has no such module", "`rsync rsync://host/` lists them."),
    ("rsync: command not found", NotFoundError, "there is no rsync on that machine", f"There: {_INSTALL}"),
    ("rsync: not found", NotFoundError, "there is no rsync on that machine", f"There: {_INSTALL}"),
    ("Permission denied", NotAuthorisedError, "that directory may not be written or read by this user",
     "Check its owner and its rights there."),
    ("read only", NotAuthorisedError, "the rsync daemon's module is read only", "Set `read only = no` for it there."),
    ("No space left", UnreachableError, "the disk there is full", "Free some space there: understudy prune."),
    ("Disk quota", UnreachableError, "the quota there is used up", "Free some space there: understudy prune."),
    ("Read-only file system", NotAuthorisedError, "the file system there is read-only", "Mount it for writing."),
)  # fmt: skip


def is_rsync(uri: str) -> bool:
    """Tell whether a text names a directory of another machine. `./a:b` is a local one, as it is for rsync."""
    return bool(_REMOTE.fullmatch(uri))


class RsyncRepository:
    """Archives in one directory of another machine. It is made when first written to; its parent has to exist.

    Raises:
        UsageError: the address cannot be read.
        NotFoundError: rsync is not installed here.
    """

    def __init__(self, uri: str) -> None:
        if not is_rsync(uri):
            raise UsageError(
                f"reading the place {uri!r}", "it is not like user@host:/path or rsync://host/module/path",
                "Check BACKUP_OFFSITE.",
            )  # fmt: skip
        self.uri = uri.rstrip("/")
        if shutil.which("rsync") is None:
            raise NotFoundError(f"opening {self.uri}", "rsync is not installed here", _INSTALL)

    def sets(self) -> list[StoredSet]:
        """Return every archive in the directory, newest first; none where the directory is not there yet."""
        try:
            listed = self._run("listing", ["--list-only", "--no-human-readable", "--", f"{self.uri}/"])
        except NotFoundError as error:
            if error.why != _NO_DIRECTORY:
                raise
            return []
        found: list[StoredSet] = []
        for line in listed.splitlines():
            if (row := _LISTED.match(line)) and row[2].endswith(ARCHIVE_SUFFIX):
                with contextlib.suppress(NotFoundError):  # somebody else's file
                    set_id = SetId.parse(row[2].removesuffix(ARCHIVE_SUFFIX))
                    size = int(row[1].replace(",", "").replace(".", ""))
                    found.append(StoredSet(set_id, size, f"{self.uri}/{row[2]}"))
        return sorted(found, key=lambda stored: stored.id, reverse=True)

    def put(self, archive: Path, set_id: SetId, advance: Advance) -> str:
        """Send an archive; what breaks off leaves nothing under its name."""
        name = f"{set_id}{ARCHIVE_SUFFIX}"
        with _folder() as place:  # a name of its own: rsync makes the directory, and takes the name from here
            try:
                (place / name).hardlink_to(archive)
            except OSError:
                (place / name).symlink_to(archive.absolute())
            # --whole-file: no old version to compare with. --ignore-times: what lies there is replaced
            options = ["--copy-links", "--whole-file", "--ignore-times", "--chmod=F600,D700", "--info=progress2"]
            stopped = False

            def tell(amount: int) -> None:
                nonlocal stopped
                stopped = True
                advance(amount)
                stopped = False

            try:
                self._run(f"sending {name} to", [*options, "--", str(place / name), f"{self.uri}/"], tell)
            except BaseException as error:
                if stopped or not isinstance(error, UnderstudyError):  # rsync may have been faster than who stopped it
                    with contextlib.suppress(UnderstudyError):
                        self.delete(StoredSet(set_id, 0, name))
                raise
        return f"{self.uri}/{name}"

    @contextlib.contextmanager
    def open(self, stored: StoredSet) -> Iterator[BinaryIO]:
        """Fetch an archive into a scratch directory (TMPDIR), and read it there."""
        name = f"{stored.id}{ARCHIVE_SUFFIX}"
        with _folder() as place:
            room = shutil.disk_usage(place).free
            if stored.size > room:
                raise UnreachableError(
                    f"fetching {name} from {self.uri}", f"{room:,} bytes are free in {place.parent}",
                    f"It takes {stored.size:,} bytes: name a larger disk with TMPDIR.",
                )  # fmt: skip
            self._run(f"fetching {name} from", ["--whole-file", "--", f"{self.uri}/{name}", f"{place}/"])
            with (place / name).open("rb") as file:
                yield file

    def delete(self, stored: StoredSet) -> None:
        """Delete an archive: an empty directory is made the truth about this one name."""
        name = f"{stored.id}{ARCHIVE_SUFFIX}"
        with _folder() as empty:
            only = ["--recursive", "--delete", f"--include=/{name}", "--exclude=*"]
            self._run(f"deleting {name} from", [*only, "--", f"{empty}/", f"{self.uri}/"])

    def _run(self, doing: str, words: Sequence[str], advance: Advance | None = None) -> str:
        command = ["rsync", f"--timeout={SILENCE_S}"]
        if self.uri.startswith("rsync://"):
            command += [f"--contimeout={CONNECT_TIMEOUT_S}"]
        else:
            command += ["-e", shlex.join([*shlex.split(os.environ.get("RSYNC_RSH") or "ssh"), *_SSH])]
        try:
            with subprocess.Popen(
                [*command, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={**os.environ, **_LOCALE},
            ) as child:  # fmt: skip
                try:
                    said, complaint = _heard(child, advance)
                except BaseException:
                    child.terminate()  # rsync removes its temporary file, there too
                    raise
        except OSError as error:
            raise NotFoundError(f"{doing} {self.uri}", error.strerror or str(error), _INSTALL) from error
        if child.returncode:
            raise _explained(f"{doing} {self.uri}", complaint, child.returncode)
        return said


_NO_DIRECTORY = "there is no such file or directory"


def _explained(doing: str, complaint: str, code: int) -> UnderstudyError:
    for words, kind, why, hint in _REASONS:
        if words in complaint:
            return kind(doing, why, hint)
    if "No such file or directory" in complaint:
        return NotFoundError(doing, _NO_DIRECTORY, "Make the parent directory there, or check the path.")
    if code == 127:
        return NotFoundError(doing, "there is no rsync on that machine", f"There: {_INSTALL}")
    lines = [line for line in complaint.splitlines() if line.strip()]
    why = lines[0][:300] if lines else f"rsync ended with code {code}"
    return UnreachableError(doing, why, "Try the same by hand with rsync -v, and check the network.")


def _heard(child: subprocess.Popen[bytes], advance: Advance | None) -> tuple[str, str]:
    """Read what rsync says until it ends, telling how far it is."""
    assert child.stdout is not None and child.stderr is not None  # noqa: S101 - both are pipes
    complaints: list[bytes] = []
    stderr = child.stderr

    def listen() -> None:
        with contextlib.suppress(ValueError, OSError):  # closed under us: we were interrupted
            complaints.extend(stderr)

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    said, rest, done = b"", b"", 0
    while data := os.read(child.stdout.fileno(), 1 << 16):
        if advance is None:
            said += data
            continue
        *lines, rest = re.split(rb"[\r\n]", rest + data)
        for line in lines:
            if row := _DONE.match(line):
                total = int(row[1].replace(b",", b""))
                advance(total - done)
                done = total
    child.wait()
    listening.join(5)
    return said.decode(errors="replace"), b"".join(complaints).decode(errors="replace")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="understudy-rsync-") as name:
        yield Path(name)
