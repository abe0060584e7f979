"""What went wrong: one tree of errors, each with an exit code, a reason, and what to try next."""

from __future__ import annotations

from typing import Any, ClassVar


class UnderstudyError(Exception):
    """The root of every error that we raise on purpose.

    `doing` is what was being done and to what ("reading slot 7 from 127.0.0.1:7001"), `why` is the cause in
    one sentence, `hint` what a person can try next. `items` lists the things that failed where there are many,
    `of` says how many there are where `items` has only some of them.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, doing: str, why: str, hint: str = "", items: list[str] | None = None, of: int = 0) -> None:
        self.doing = doing
        self.why = why
        self.hint = hint
        self.items = items or []
        self._of = of
        super().__init__(f"{doing}: {why}")

    @property
    def of(self) -> int:
        """Return how many things failed, named in `items` or not."""
        return max(self._of, len(self.items))

    def as_data(self) -> dict[str, Any]:
        """Return the error as `--json` prints it."""
        return {
            "error": type(self).__name__,
            "doing": self.doing,
            "why": self.why,
            "try": self.hint,
            "items": self.items,
            "retryable": self.retryable,
            "exit_code": self.exit_code,
        }


class UsageError(UnderstudyError):
    """What was asked makes no sense; nothing was done."""

    exit_code = 2


class UnreachableError(UnderstudyError):
    """A server or a store did not answer. Trying again can help."""

    exit_code = 10
    retryable = True


class NotAuthorisedError(UnderstudyError):
    """A server or a store answered, and refused who we are."""

    exit_code = 10


class ServerSaidError(UnderstudyError):
    """A server answered a command with an error that is neither about permission nor a "not now"."""

    exit_code = 10


class NotFoundError(UnderstudyError):
    """The set, lab, bucket or file that was named is not there."""

    exit_code = 11


class IntegrityError(UnderstudyError):
    """Bytes are not what they should be: checksum, format, or a payload that the target cannot read."""

    exit_code = 12


NO_ROOM = (
    "Free some space, or name another directory (BACKUP_DIR). If old sets may go: lower BACKUP_DAILY_RETENTION, then "
    "understudy prune --despite-failure --dry-run."
)


def out_of_room(error: OSError) -> UnreachableError:
    """Return our error for a disk that does not take what we write."""
    place = f" {error.filename}" if error.filename else ""
    return UnreachableError(f"writing{place}", error.strerror or str(error), NO_ROOM)


class IncompleteError(UnderstudyError):
    """The work ended, and some items failed; `items` lists them."""

    exit_code = 13


class RefusedError(UnderstudyError):
    """We will not do that as things stand: locked, taken, not confirmed."""

    exit_code = 14


class VerdictError(UnderstudyError):
    """The work was done and its verdict is failed or unknown."""

    exit_code = 15
