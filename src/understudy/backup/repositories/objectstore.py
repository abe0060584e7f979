"""Sets as objects, `<prefix>/<id>.tar.gz`, in S3 or anything that obstore reaches (Azure, Google Cloud).

S3 credentials, region and endpoint are found as the AWS command line finds them, by boto3: AWS_PROFILE, the
environment, SSO, instance roles, AWS_ENDPOINT_URL. An upload is multipart and appears only when it is complete.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from understudy import installed
from understudy.backup.repository import ARCHIVE_SUFFIX, Advance, StoredSet
from understudy.backup.set import SetId
from understudy.errors import NotAuthorisedError, NotFoundError, UnderstudyError, UnreachableError, UsageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
_READ_BYTES = 1 << 20
REQUEST_TIMEOUT = "60s"  # of one request, a part of an upload for example
MOST_RETRIES = 5
_RETRY_FOR = timedelta(seconds=30)
_SCHEMES = ("s3", "az", "azure", "gs", "memory")
Result = TypeVar("Result")

# what S3 says, and what to do about it
_REASONS: tuple[tuple[str, type[UnderstudyError], str, str], ...] = (
    ("InvalidAccessKeyId", NotAuthorisedError, "the access key is not known there",
     "Check AWS_PROFILE (or the AWS_* variables) and the endpoint."),
    ("SignatureDoesNotMatch", NotAuthorisedError, "the secret key does not fit the access key",
     "Check the secret key of the profile."),
    ("ExpiredToken", NotAuthorisedError, "the session token has expired", "Log in again: aws sso login."),
    ("RequestTimeTooSkewed", NotAuthorisedError, "this machine's clock differs too much from the store's",
     "Set the clock (timedatectl set-ntp true), then try again."),
    ("RequestExpired", NotAuthorisedError, "this machine's clock differs too much from the store's",
     "Set the clock (timedatectl set-ntp true), then try again."),
    ("AccessDenied", NotAuthorisedError, "access is denied",
     "The credentials need s3:ListBucket, s3:GetObject and s3:PutObject on this bucket and prefix."),
    ("NoSuchBucket", NotFoundError, "the bucket does not exist", "Check the bucket's name in S3_URI, or make it."),
    ("PermanentRedirect", UsageError, "the bucket is in another region", "Set AWS_REGION to the bucket's region."),
    ("AuthorizationHeaderMalformed", UsageError, "the region is not the bucket's", "Set AWS_REGION."),
    ("PermissionDenied", NotAuthorisedError, "access is denied", "Check the credentials and their rights."),
    ("Unauthenticated", NotAuthorisedError, "the credentials were refused", "Check AWS_PROFILE."),
)  # fmt: skip


class ObjectStoreRepository:
    """Archives under one URI, for example `s3://my-bucket/redis-backups`.

    Raises:
        UsageError: the URI cannot be read, or the extra `s3` is not installed.
        NotAuthorisedError: no credentials were found.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        scheme, _, rest = self.uri.partition("://")
        bucket, _, self._prefix = rest.partition("/")
        if scheme not in _SCHEMES or not bucket:
            raise UsageError(f"reading the URI {uri!r}", "it is not like s3://bucket/prefix", "Check S3_URI.")
        try:
            self.store = _s3(bucket, uri) if scheme == "s3" else _other(f"{scheme}://{bucket}")
        except ImportError as error:
            raise installed.missing_extra(f"opening {uri}", error, "s3") from error

    def path(self, name: str) -> str:
        """Return the key of an object below the prefix."""
        return f"{self._prefix}/{name}" if self._prefix else name

    def sets(self) -> list[StoredSet]:
        """Return every archive directly under the prefix, newest first."""
        found: list[StoredSet] = []
        under = f"{self._prefix}/" if self._prefix else None
        # what lies deeper is not listed: an archive (`understudy archive`) has a hundred thousand objects there
        for row in self.attempt("listing", lambda: self.store.list_with_delimiter(under))["objects"]:
            name = row["path"].removeprefix(self._prefix).lstrip("/")
            if not name.endswith(ARCHIVE_SUFFIX):
                continue
            with contextlib.suppress(NotFoundError):  # somebody else's object
                set_id = SetId.parse(name.removesuffix(ARCHIVE_SUFFIX))
                found.append(StoredSet(set_id, row["size"], row["path"]))
        return sorted(found, key=lambda stored: stored.id, reverse=True)

    def put(self, archive: Path, set_id: SetId, advance: Advance) -> str:
        """Upload in parts, several at a time, each retried; a broken upload leaves no object."""
        return self.upload(f"{set_id}{ARCHIVE_SUFFIX}", archive, advance)

    def upload(self, name: str, source: Path, advance: Advance) -> str:
        """Upload a file under a name below the prefix, and return its URI."""

        def chunks(file: BinaryIO) -> Iterator[bytes]:
            while data := file.read(_READ_BYTES):
                yield data
                advance(len(data))

        def send() -> None:
            with source.open("rb") as file:
                self.store.put(
                    self.path(name), chunks(file), use_multipart=True, chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )  # fmt: skip

        self.attempt(f"uploading {name} to", send)
        return f"{self.uri}/{name}"

    @contextlib.contextmanager
    def open(self, stored: StoredSet) -> Iterator[BinaryIO]:
        """Download an archive as a stream."""
        stream = self.attempt(
            f"downloading {stored.key} from", lambda: self.store.get(stored.key).stream(min_chunk_size=_READ_BYTES)
        )
        chunks = _Chunks(stream, lambda act: self.attempt("downloading from", act))
        yield cast(BinaryIO, io.BufferedReader(chunks, _READ_BYTES))

    def delete(self, stored: StoredSet) -> None:
        """Delete the object."""
        self.attempt(f"deleting {stored.key} from", lambda: self.store.delete(stored.key))

    def attempt(self, doing: str, act: Callable[[], Result]) -> Result:
        """Do something with the store; `doing` says what, before the URI, in the error where it cannot be done."""
        from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra

        try:
            return _interruptibly(act)
        except (BaseError, FileNotFoundError, PermissionError, OSError) as error:
            raise _explained(f"{doing} {self.uri}", error) from error


def _interruptibly(act: Callable[[], Result]) -> Result:
    """Do something that obstore does without looking at signals, such that Ctrl-C ends it at once all the same."""
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(act())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # daemon: when we are interrupted, nobody waits for it
    return done.result()


def _explained(doing: str, error: Exception) -> UnderstudyError:
    text = str(error)
    for word, kind, why, hint in _REASONS:
        if word in text or word in type(error).__name__:
            return kind(doing, why, hint)
    if type(error).__name__ == "NotFoundError" or isinstance(error, FileNotFoundError):
        return NotFoundError(doing, "there is no such object or bucket", "`understudy list --s3-uri` shows the sets.")
    if "403" in text:  # a HEAD request is refused without a reason
        return NotAuthorisedError(doing, "access is denied", "Check the credentials and their rights.")
    return UnreachableError(
        doing,
        " ".join(text.partition("Debug source")[0].split())[:300],
        "Check the network and AWS_ENDPOINT_URL, then try again.",
    )


class _Chunks(io.RawIOBase):
    """A download, which arrives in chunks, as a file that can be read."""

    def __init__(self, chunks: Any, attempt: Callable[[Callable[[], Any]], Any]) -> None:
        self._chunks, self._attempt = iter(chunks), attempt
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held:
            self._held = memoryview(self._attempt(lambda: next(self._chunks, b"")))
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count


def _s3(bucket: str, uri: str) -> ObjectStore:
    import boto3  # noqa: PLC0415 - slow to import, and an extra
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415
    from obstore.store import S3Store  # noqa: PLC0415

    try:
        session = boto3.Session()
        region = session.region_name or "us-east-1"
        endpoint = session.client("s3", region_name=region).meta.endpoint_url
        if session.get_credentials() is None:
            raise NotAuthorisedError(
                f"opening {uri}", "no AWS credentials were found",
                "Set AWS_PROFILE to a profile of ~/.aws/credentials, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            )  # fmt: skip
        provider = Boto3CredentialProvider(session)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise NotAuthorisedError(
            f"finding AWS credentials for {uri}", str(error), "Check AWS_PROFILE and ~/.aws/config."
        ) from error
    plain = endpoint.startswith("http://")
    return S3Store(
        bucket, endpoint=endpoint, region=region, credential_provider=provider,
        client_options={"allow_http": plain, "timeout": REQUEST_TIMEOUT, "connect_timeout": "5s"},
        retry_config={"max_retries": MOST_RETRIES, "retry_timeout": _RETRY_FOR},
    )  # fmt: skip


def _other(uri: str) -> ObjectStore:
    from obstore.store import from_url  # noqa: PLC0415

    return from_url(uri)
