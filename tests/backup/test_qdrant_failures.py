"""What goes wrong with Qdrant: each failure has its exit code and a next step, and leaves no snapshot behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from qdrant_standin import CLIENT, StandIn, filled, standin
from support import eventually
from understudy.backup.component import RestoreOptions
from understudy.backup.components.qdrant import QdrantComponent
from understudy.backup.qdrant import wire
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import BackupSet, FileEntry
from understudy.backup.take import take
from understudy.errors import (
    IntegrityError,
    NotAuthorisedError,
    ServerSaidError,
    UnderstudyError,
    UnreachableError,
    UsageError,
)
from understudy.lab.certificates import make
from understudy.progress import Silent

KEY = "planted-qdrant-key"
OPTIONS = RestoreOptions()


class OtherFailedError(Exception):
    """What another component's failure raises in ours."""


class Ending(Silent):
    """Ends the work at the first advance after `when` holds; keeps what was said."""

    def __init__(self, when: Callable[[], bool], error: type[BaseException] = OtherFailedError) -> None:
        self._when, self._error = when, error
        self.said: list[str] = []

    def advance(self, amount: int) -> None:
        if self._when():
            raise self._error

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with standin(tmp_path_factory.mktemp("one"), api_key=KEY) as running:
        yield running


@pytest.fixture
def qdrant(one: StandIn) -> StandIn:
    one.reset()
    filled(one.url, "docs", 50, api_key=KEY)
    return one


@contextlib.contextmanager
def component(*urls: str, key: str | None = KEY) -> Iterator[QdrantComponent]:
    with contextlib.closing(QdrantComponent(urls, api_key=key)) as found:
        yield found


def backed_up(running: StandIn, into: Path, progress: Silent | None = None) -> BackupSet:
    with component(running.url) as found:
        return take([found], LocalRepository(into), None, "local", progress or Silent()).backup


def failure(running: StandIn, into: Path) -> UnderstudyError:
    """The error of a backup that fails, after which nothing is left here or there."""
    with pytest.raises(UnderstudyError) as raised:
        backed_up(running, into)
    assert raised.value.hint
    assert LocalRepository(into).sets() == []
    assert running.left() == []
    return raised.value


def refused(url: str, key: str | None = KEY) -> UnderstudyError:
    """The error of a connection that fails; the key never stands in it."""
    with component(url, key=key) as found, pytest.raises(UnderstudyError) as raised:
        found.connect()
    assert raised.value.hint
    assert KEY not in f"{raised.value.as_data()}"
    return raised.value


def count(running: StandIn, name: str = "docs") -> int:
    place = f"{running.url}/collections/{name}/points/count"
    return int(CLIENT.post(place, json={"exact": True}, headers={"api-key": KEY}).json()["result"]["count"])


def asked(running: StandIn, method: str, end: str) -> bool:
    return any(row["method"] == method and row["path"].endswith(end) for row in running.seen())


# -- connecting


def test_a_server_that_is_not_there(qdrant: StandIn) -> None:
    error = refused("http://127.0.0.1:1")
    assert isinstance(error, UnreachableError)
    assert error.exit_code == 10
    assert "6333" in error.hint


@pytest.mark.parametrize("key", ["wrong", None])
def test_a_wrong_key(qdrant: StandIn, key: str | None) -> None:
    error = refused(qdrant.url, key)
    assert isinstance(error, NotAuthorisedError)
    assert error.exit_code == 10
    assert "QDRANT_API_KEY" in error.hint


def test_a_key_that_is_no_header(qdrant: StandIn) -> None:
    with (
        pytest.raises(UsageError, match="cannot stand in an HTTP header") as raised,
        component(qdrant.url, key="열쇠") as c,
    ):
        c.connect()
    assert "열쇠" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["ftp://host:6333", "http://", "http://host:notaport", f"http://host:6333/?api-key={KEY}", "http://[::1"]
)
def test_an_address_that_cannot_be_used(url: str) -> None:
    assert isinstance(refused(url), UsageError)


def test_a_proxy_that_shows_a_login_page(qdrant: StandIn) -> None:
    qdrant.set(html=True)
    error = refused(qdrant.url)
    assert isinstance(error, ServerSaidError)
    assert "text/html" in error.why
    assert "QDRANT_URL" in error.hint


def test_a_redirect_is_not_followed_with_our_key(qdrant: StandIn, tmp_path: Path) -> None:
    with standin(tmp_path) as elsewhere:
        qdrant.set(redirect=f"{elsewhere.url}/collections?user={KEY}")
        error = refused(qdrant.url)
        assert f"redirects to {elsewhere.url}/collections" in error.why
        assert elsewhere.seen() == [row for row in elsewhere.seen() if row["path"] == "/healthz"]


def test_something_that_answers_json_and_is_no_qdrant(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('{"hello": "world"}')
    with serving(tmp_path, "-m", "http.server") as url:
        assert isinstance(refused(url), ServerSaidError)


@contextlib.contextmanager
def serving(folder: Path, *words: str) -> Iterator[str]:
    from understudy.lab.ports import claim_few

    block = claim_few()
    words = (sys.executable, *words, str(block.first), "--bind", "127.0.0.1", "--directory", str(folder))
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{block.first}"
        eventually(lambda: _answers(url))
        yield url
    finally:
        process.kill()
        process.wait()
        block.release()


def _answers(url: str) -> bool:
    try:
        return CLIENT.get(url).is_success
    except httpx.HTTPError:
        return False


def test_a_proxy_of_the_environment_is_used_named_and_left_out_where_it_is_not_wanted(
    qdrant: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://ann:planted-password@127.0.0.1:1")
    error = refused(qdrant.url)
    assert "HTTP_PROXY" in error.hint
    assert "planted-password" not in f"{error.as_data()}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with component(qdrant.url) as found:
        found.connect()


@pytest.mark.parametrize("form", ["{}/", "{}///", "no scheme"])
def test_forms_of_an_address(qdrant: StandIn, tmp_path: Path, form: str) -> None:
    url = qdrant.url.removeprefix("http://") if form == "no scheme" else form.format(qdrant.url)
    with component(url) as found:
        assert found.cluster.first.url == qdrant.url
        assert take([found], LocalRepository(tmp_path), None, "local", Silent()).backup.metadata.files


def test_a_path_before_the_api(tmp_path: Path) -> None:
    with standin(tmp_path / "server", prefix="/vectors/qdrant", api_key=KEY) as running:
        filled(running.url, "docs", 5, api_key=KEY)
        backup = backed_up(running, tmp_path / "sets")
        with component(f"{running.url}/") as found:
            found.restore(backup, OPTIONS, Silent())
            assert found.compare(backup, Silent()).differences == ()


def test_a_server_on_ipv6(tmp_path: Path) -> None:
    try:
        with standin(tmp_path / "server", host="::1", api_key=KEY) as running:
            filled(running.url, "docs", 5, api_key=KEY)
            backup = backed_up(running, tmp_path / "sets")
            assert backup.metadata.components["qdrant"]["nodes"][0]["url"] == running.url
    except AssertionError:
        if Path("/proc/net/if_inet6").exists() and Path("/proc/net/if_inet6").read_text():
            raise
        pytest.skip("this machine has no IPv6")


def test_a_certificate_of_our_own_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = make(tmp_path / "tls")
    with standin(tmp_path / "server", tls=f"{files.certificate}:{files.key}", api_key=KEY) as running:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        error = refused(running.url)
        assert isinstance(error, UnreachableError)
        assert "SSL_CERT_FILE" in error.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(files.authority))
        with component(running.url) as found:
            found.connect()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
        assert isinstance(refused(running.url), UsageError)


def test_a_password_in_the_address_is_shown_nowhere(qdrant: StandIn, tmp_path: Path) -> None:
    url = qdrant.url.replace("://", "://ann:planted-password@")
    with component(url) as found:
        backup = take([found], LocalRepository(tmp_path), None, "local", Silent()).backup
        assert "planted" not in f"{found.sources(backup)}{found.overwrites(backup, OPTIONS)}"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"planted-password" not in data
            assert KEY.encode() not in data
    assert KEY not in f"{qdrant.seen()}"
    assert all(
        row["key"] for row in qdrant.seen() if row["path"] not in {"/", "/healthz"} and "docs" not in row["path"]
    )


# -- taking


def test_a_full_disk_on_the_server(qdrant: StandIn, tmp_path: Path) -> None:
    qdrant.set(fail_snapshot="No space left on device (os error 28)")
    error = failure(qdrant, tmp_path)
    assert isinstance(error, ServerSaidError)
    assert "No space left" in error.why
    assert "Free some space on the Qdrant server" in error.hint


def test_a_full_disk_here_is_noticed_before_the_download(
    qdrant: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from understudy.backup.qdrant import take as taking

    real = taking.shutil.disk_usage
    monkeypatch.setattr(taking.shutil, "disk_usage", lambda path: real(path)._replace(free=1000))
    error = failure(qdrant, tmp_path)
    assert "1000 B are free" in error.why
    assert not any(row["method"] == "GET" and "/snapshots/" in row["path"] for row in qdrant.seen())


def test_a_download_that_is_cut_off(qdrant: StandIn, tmp_path: Path) -> None:
    qdrant.set(cut_download=True, padding=3 << 20)
    error = failure(qdrant, tmp_path)
    assert isinstance(error, UnreachableError)
    assert error.retryable


def test_a_download_with_another_checksum(qdrant: StandIn, tmp_path: Path) -> None:
    qdrant.set(wrong_checksum=True)
    error = failure(qdrant, tmp_path)
    assert isinstance(error, IntegrityError)
    assert error.exit_code == 12


def test_a_server_that_gives_no_checksum_is_named_in_the_set(qdrant: StandIn, tmp_path: Path) -> None:
    qdrant.set(no_checksum=True)
    backup = backed_up(qdrant, tmp_path)
    assert backup.metadata.components["qdrant"]["warnings"] == [
        f"{qdrant.url} gave no checksum for the snapshot of docs"
    ]
    QdrantComponent.read_through(backup, Silent())


def test_a_server_that_stops_answering(qdrant: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ANSWER_S", 0.3)
    qdrant.set(padding=4 << 20, pause_s=2)
    with component(qdrant.url) as found:
        found.connect()
        with pytest.raises(UnreachableError, match="not answered in time"):
            take([found], LocalRepository(tmp_path), None, "local", Silent())
    assert qdrant.left() == []


def test_a_snapshot_that_takes_longer_than_any_other_answer(
    qdrant: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "ANSWER_S", 0.5)
    qdrant.set(snapshot_s=1.2)
    assert backed_up(qdrant, tmp_path).metadata.files


def test_a_snapshot_that_cannot_be_deleted_is_named_and_the_set_stands(qdrant: StandIn, tmp_path: Path) -> None:
    qdrant.set(fail_delete="permission denied")
    progress = Ending(lambda: False)
    backup = backed_up(qdrant, tmp_path, progress)
    (warning,) = backup.metadata.components["qdrant"]["warnings"]
    assert f"stays on {qdrant.url}" in warning
    assert "permission denied" in warning
    assert progress.said == [f"Warning: Qdrant: {warning}"]
    qdrant.set(wrong_checksum=True)
    with pytest.raises(IntegrityError) as raised:
        backed_up(qdrant, tmp_path)
    assert "stays on" in raised.value.items[0]


def test_a_snapshot_whose_answer_was_lost_is_named_but_not_deleted(qdrant: StandIn, tmp_path: Path) -> None:
    theirs = CLIENT.post(f"{qdrant.url}/collections/docs/snapshots", headers={"api-key": KEY}).json()["result"]["name"]
    qdrant.set(late_504=True)
    with pytest.raises(UnreachableError, match="504") as raised:
        backed_up(qdrant, tmp_path)
    (ours,) = [Path(path).name for path in qdrant.left() if not path.endswith(theirs)]
    assert raised.value.items == [f"Delete it if it is ours: {qdrant.url}/collections/docs/snapshots/{ours}"]


def test_a_collection_that_is_deleted_meanwhile_and_an_alias_that_is_switched_are_told(
    qdrant: StandIn, tmp_path: Path
) -> None:
    filled(qdrant.url, "temporary", 3, api_key=KEY)
    changed: list[bool] = []

    def change() -> bool:
        if not changed and asked(qdrant, "POST", "/docs/snapshots"):
            changed.append(True)
            CLIENT.delete(f"{qdrant.url}/collections/temporary", headers={"api-key": KEY})
            filled(qdrant.url, "docs_v2", 3, api_key=KEY)
            action = {"create_alias": {"alias_name": "live", "collection_name": "docs_v2"}}
            CLIENT.post(f"{qdrant.url}/collections/aliases", json={"actions": [action]}, headers={"api-key": KEY})
        return False

    qdrant.set(snapshot_s=0.5)
    backup = backed_up(qdrant, tmp_path, Ending(change))
    assert backup.metadata.components["qdrant"]["summary"] == "50 vectors in docs"
    assert backup.metadata.components["qdrant"]["warnings"] == [
        "temporary is not in the set: it was deleted meanwhile",
        "the alias live is not in the set: its collection docs_v2 is new",
    ]


@pytest.mark.parametrize("error", [OtherFailedError, KeyboardInterrupt, SystemExit])
def test_ended_while_the_server_makes_the_snapshot(qdrant: StandIn, tmp_path: Path, error: type[BaseException]) -> None:
    qdrant.set(snapshot_s=0.8)
    progress = Ending(lambda: asked(qdrant, "POST", "/snapshots"), error)
    with pytest.raises(error):
        backed_up(qdrant, tmp_path, progress)
    assert "to delete it there" in progress.said[0]
    assert qdrant.left() == []
    assert LocalRepository(tmp_path).sets() == []


def test_ended_while_it_downloads_from_a_server_that_is_slow(qdrant: StandIn, tmp_path: Path) -> None:
    qdrant.set(pause_s=30, padding=4 << 20)
    progress = Ending(lambda: any(row["method"] == "GET" and "/snapshots/" in row["path"] for row in qdrant.seen()))
    began = time.monotonic()
    with pytest.raises(OtherFailedError):
        backed_up(qdrant, tmp_path, progress)
    assert time.monotonic() - began < 10  # it does not wait for the next block
    assert qdrant.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_ended_leaves_no_snapshot(qdrant: StandIn, tmp_path: Path, number: signal.Signals) -> None:
    qdrant.set(snapshot_s=1.0)
    script = (
        "import signal, sys\nfrom pathlib import Path\n"
        "from understudy.backup.components.qdrant import QdrantComponent\n"
        "from understudy.backup.repositories.local import LocalRepository\n"
        "from understudy.backup.take import take\nfrom understudy.progress import Silent\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"take([QdrantComponent([{qdrant.url!r}], api_key={KEY!r})], LocalRepository(Path({str(tmp_path)!r})), None, "
        "'local', Silent())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    eventually(lambda: asked(qdrant, "POST", "/snapshots"))
    os.kill(process.pid, number)
    assert process.wait(30) != 0
    assert qdrant.left() == []
    assert LocalRepository(tmp_path).sets() == []


# -- restoring


def test_bytes_that_change_on_the_way_to_the_server_are_refused_by_it(qdrant: StandIn, tmp_path: Path) -> None:
    backup = backed_up(qdrant, tmp_path)
    with (backup.directory / "qdrant/docs.snapshot").open("ab") as file:
        file.write(b"more")
    with component(qdrant.url) as found, pytest.raises(IntegrityError) as raised:
        found.restore(backup, OPTIONS, Silent())
    assert raised.value.exit_code == 12
    assert qdrant.left() == []


def test_a_restore_that_fails_on_the_server_leaves_no_copy_and_says_what_is_done(
    qdrant: StandIn, tmp_path: Path
) -> None:
    filled(qdrant.url, "more", 5, api_key=KEY)
    backup = backed_up(qdrant, tmp_path)
    headers = {"api-key": KEY}
    CLIENT.delete(f"{qdrant.url}/collections/more", headers=headers)
    body = {"vectors": {"size": 9, "distance": "Cosine"}}
    CLIENT.put(f"{qdrant.url}/collections/more", json=body, headers=headers)  # after the check
    with component(qdrant.url) as found, pytest.raises(ServerSaidError, match="not compatible") as raised:
        found.restore(backup, OPTIONS, Silent())
    assert raised.value.items == ["restored: docs"]
    assert qdrant.left() == []
    qdrant.set(fail_recover="No space left on device")
    with component(qdrant.url) as found, pytest.raises(ServerSaidError) as raised:
        found.restore(backup, OPTIONS, Silent())
    assert "Free some space on the Qdrant server" in raised.value.hint
    assert qdrant.left() == []


def test_a_restore_that_is_ended_is_completed_by_the_same_again(qdrant: StandIn, tmp_path: Path) -> None:
    backup = backed_up(qdrant, tmp_path)
    CLIENT.post(f"{qdrant.url}/collections/docs/points/delete", json={"points": [1]}, headers={"api-key": KEY})
    qdrant.set(recover_s=1.0)
    progress = Ending(lambda: asked(qdrant, "POST", "/upload"))
    with component(qdrant.url) as found:
        with pytest.raises(OtherFailedError):
            found.restore(backup, OPTIONS, progress)
        qdrant.set(recover_s=0)
        found.restore(backup, OPTIONS, Silent())
        assert found.compare(backup, Silent()).differences == ()
    assert qdrant.left() == []


def test_a_restore_that_is_ended_while_it_uploads_changes_nothing(
    qdrant: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from understudy.backup.qdrant import node

    qdrant.set(padding=8 << 20)
    backup = backed_up(qdrant, tmp_path)
    CLIENT.post(f"{qdrant.url}/collections/docs/points/delete", json={"points": [1]}, headers={"api-key": KEY})
    real = node._Watched.read

    def slowly(self: Any, size: int = -1) -> bytes:
        time.sleep(0.05)
        return real(self, size)

    monkeypatch.setattr(node._Watched, "read", slowly)
    progress = Ending(lambda: asked(qdrant, "POST", "/upload"))
    with component(qdrant.url) as found, pytest.raises(OtherFailedError):
        found.restore(backup, OPTIONS, progress)
    assert count(qdrant) == 49
    assert [path for path in qdrant.left() if path.endswith(".snapshot")] == []


def test_fewer_vectors_after_the_restore_than_were_recorded_are_a_failure(qdrant: StandIn, tmp_path: Path) -> None:
    backup = backed_up(qdrant, tmp_path)
    recorded = {**backup.metadata.components["qdrant"]}
    recorded["collections"] = [{**recorded["collections"][0], "points": 51}]
    backup = replace(backup, metadata=replace(backup.metadata, components={"qdrant": recorded}))
    with component(qdrant.url) as found:
        report = found.restore(backup, OPTIONS, Silent())
        assert found.compare(backup, Silent()).differences == (
            "50 vectors in docs, and the set recorded 51 vectors in docs",
        )
    assert report.failures == ["50 vectors in docs after the restore, and the set recorded 51 vectors in docs"]


# -- a set that is damaged, without a server


def damaged(backup: BackupSet, data: bytes, checksum: str | None = None) -> BackupSet:
    """The same set with another snapshot, whose sums fit."""
    path = "qdrant/docs.snapshot"
    (backup.directory / path).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    files = tuple(
        FileEntry(path, len(data), sha256) if entry.path == path else entry for entry in backup.metadata.files
    )
    recorded = {**backup.metadata.components["qdrant"]}
    file = {**recorded["collections"][0]["files"][0], "checksum": checksum or sha256}
    recorded["collections"] = [{**recorded["collections"][0], "files": [file]}]
    return replace(backup, metadata=replace(backup.metadata, files=files, components={"qdrant": recorded}))


def test_a_snapshot_that_was_never_whole_is_found_without_a_server(qdrant: StandIn, tmp_path: Path) -> None:
    backup = backed_up(qdrant, tmp_path)
    data = (backup.directory / "qdrant/docs.snapshot").read_bytes()
    QdrantComponent.read_through(damaged(backup, data), Silent())
    empty = tmp_path / "empty.tar"
    tarfile.open(empty, "w").close()
    wrong = [b"", b"x", b"no tar file at all" * 100, empty.read_bytes(), data + b"more", data[: len(data) // 2]]
    wrong += [data[:end] for end in range(512, len(data.rstrip(b"\0")), 512)]
    for bytes_ in wrong:
        with pytest.raises(IntegrityError):
            QdrantComponent.read_through(damaged(backup, bytes_), Silent())
    with pytest.raises(IntegrityError, match="checksum that Qdrant gave"):
        QdrantComponent.read_through(damaged(backup, data, "0" * 64), Silent())


@pytest.mark.parametrize("break_it", ["collections", "server", "nodes", "complete"])
def test_metadata_that_lacks_something_is_damaged(qdrant: StandIn, tmp_path: Path, break_it: str) -> None:
    backup = backed_up(qdrant, tmp_path)
    recorded = {name: value for name, value in backup.metadata.components["qdrant"].items() if name != break_it}
    backup = replace(backup, metadata=replace(backup.metadata, components={"qdrant": recorded}))
    with pytest.raises(IntegrityError, match="it is damaged"):
        QdrantComponent.read_through(backup, Silent())


def test_a_failure_leaves_no_file_in_the_set_of_the_others(qdrant: StandIn, tmp_path: Path) -> None:
    filled(qdrant.url, "more", 5, api_key=KEY)
    progress = Ending(lambda: asked(qdrant, "POST", "/more/snapshots"))
    with component(qdrant.url) as found, pytest.raises(OtherFailedError):
        found.take(tmp_path, tmp_path, progress)
    assert asked(qdrant, "POST", "/docs/snapshots")
    assert list(tmp_path.iterdir()) == []
