"""Notifications arrive as they were written, or are a warning that tells no secret; nothing waits for them."""

from __future__ import annotations

import html
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receivers import Receiver, http_receiver, silent_receiver, smtp_receiver
from understudy import settings
from understudy.operations import by_apprise
from understudy.operations import notify as module
from understudy.operations.notify import Event, notify, places

AWKWARD = 'Backup "nightly" of 백업 failed: 100% of C:\\dumps\\new & <b>it\'s</b> `gone` %s {0} $HOME 🎫'
EVENT = Event("failure", "daily", AWKWARD, ("first line", AWKWARD, 'third "line"\\n'))
SLACK = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
DISCORD = "https://discord.com/api/webhooks/0123456789012345678/abcDEFabcDEF-_abcDEFabcDEF-_abcDEF"
HARSH = hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # fmt: skip


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as one:
        yield one


def told(event: Event = EVENT, **given: object) -> list[str]:
    return notify(settings.load(**given), event)


@pytest.fixture
def loopback(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """Slack's and Discord's addresses lead to the receiver."""
    from apprise.plugins.discord import NotifyDiscord
    from apprise.plugins.slack import NotifySlack

    monkeypatch.setattr(NotifySlack, "webhook_url", f"{receiver.url}/services")
    monkeypatch.setattr(NotifyDiscord, "notify_url", f"{receiver.url}/api/webhooks")
    monkeypatch.setattr(NotifySlack, "request_rate_per_sec", 0)
    monkeypatch.setattr(NotifyDiscord, "request_rate_per_sec", 0)
    return receiver


def test_a_webhook_gets_title_and_body_as_they_were_written(receiver: Receiver) -> None:
    assert told(backup_notify_webhook=f"{receiver.url}/hook/s3cret?key=t0ken") == []
    ((path, body),) = receiver.requests
    assert path == "/hook/s3cret?key=t0ken"
    sent = json.loads(body)
    assert sent["title"] == AWKWARD
    assert sent["body"] == "\n".join([*EVENT.lines, f"Host: {socket.gethostname()}"])
    assert (sent["kind"], sent["tier"]) == ("failure", "daily")
    assert sent["text"] == f"{sent['title']}\n{sent['body']}"


@HARSH
@given(title=st.text(min_size=1), line=st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_a_webhook_survives_any_text(receiver: Receiver, title: str, line: str) -> None:
    event = Event("success", "weekly", title, (line,))
    assert told(event, backup_notify_webhook=receiver.url, backup_notify_success=True) == []
    sent = json.loads(receiver.requests[-1][1])
    assert not set(sent["title"]) & {"\n", "\r"}
    assert sent["body"] == f"{line}\nHost: {socket.gethostname()}"


def sent_to(hook: str, event: Event) -> None:
    """Send as the process of Apprise's does, in this one, where its addresses lead elsewhere."""
    (place,) = places(settings.load(backup_notify_webhook=hook))
    assert place.by_apprise
    assert by_apprise.send(place.url, event.heading, event.body, good=event.kind != "failure") is None


def test_slack_gets_valid_json_in_its_own_form(loopback: Receiver) -> None:
    sent_to(SLACK, EVENT)
    ((path, body),) = loopback.requests
    assert path == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    (attachment,) = json.loads(body)["attachments"]
    assert html.unescape(attachment["title"]) == AWKWARD
    assert html.unescape(attachment["text"]) == EVENT.body
    assert "<b>" not in attachment["text"], "Slack reads < and > as its own marks"


@HARSH
@given(title=st.text(), line=st.text())
def test_slack_and_discord_survive_any_text(loopback: Receiver, title: str, line: str) -> None:
    loopback.requests.clear()
    for hook in (SLACK, DISCORD):
        sent_to(hook, Event("failure", "daily", f"x{title}", (f"{line}.",)))
    assert all(isinstance(json.loads(body), dict) for _, body in loopback.requests)
    assert len(loopback.requests) == 2


def test_discord_gets_its_own_form(loopback: Receiver) -> None:
    sent_to(DISCORD, EVENT)
    path, body = loopback.requests[0]
    assert path.startswith("/api/webhooks/0123456789012345678/abcDEF")
    sent = json.dumps(json.loads(body), ensure_ascii=False)
    assert "백업" in sent
    assert "100% of" in sent


def test_a_mail_goes_through_the_mail_server_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with smtp_receiver() as server:
        monkeypatch.setattr(module, "MAIL_SERVER", f"127.0.0.1:{server.port}")
        assert told(backup_notify_email="admin@example.com, ops+backup@example.com") == []
    assert len(server.mails) == 2
    assert {str(mail["To"]) for mail in server.mails} == {"admin@example.com", "ops+backup@example.com"}
    for mail in server.mails:
        assert str(mail["Subject"]) == AWKWARD
        assert mail.get_content_type() == "text/plain"
        assert mail.get_content().strip().replace("\r\n", "\n") == EVENT.body


def test_a_title_of_several_lines_adds_no_header_to_a_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    with smtp_receiver() as server:
        monkeypatch.setattr(module, "MAIL_SERVER", f"127.0.0.1:{server.port}")
        assert (
            told(Event("failure", "daily", "one\r\nBcc: thief@example.com"), backup_notify_email="a@example.com") == []
        )
    assert server.mails[0]["Bcc"] is None


def test_success_is_told_only_where_it_is_wanted(receiver: Receiver) -> None:
    for kind, wanted, count in (
        ("success", False, 0),
        ("success", True, 1),
        ("recovery", False, 2),
        ("failure", False, 3),
    ):
        event = Event(kind, "daily", "done")  # type: ignore[arg-type]
        assert told(event, backup_notify_webhook=receiver.url, backup_notify_success=wanted) == []
        assert len(receiver.requests) == count


def test_a_place_that_refuses_hangs_or_is_not_there_is_a_warning_without_its_secrets(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "MAIL_SERVER", "127.0.0.1:1")
    receiver.status = 404
    with silent_receiver() as silent:
        everybody = settings.load(
            backup_notify=(
                f"json://user:s3cret@127.0.0.1:{receiver.port}/s3cret",
                f"json://127.0.0.1:{silent.port}/s3cret?rto=60",
                "json://127.0.0.1:1/s3cret",
                "nonsense://s3cret",
                "s3cret",
            ),
            backup_notify_email="admin@example.com",
            backup_notify_webhook=f"{receiver.url}/s3cret",
        )
        begun = time.monotonic()
        warnings = notify(everybody, EVENT, deadline_s=8)
        assert time.monotonic() - begun < 10
    assert len(warnings) == 7
    for warning, says in zip(
        warnings,
        ("404", "within 8 s", "cannot be reached", "cannot read", "cannot read", "localhost|mail server", "404"),
        strict=True,
    ):
        assert any(word in warning for word in says.split("|")), warning
    out, err = capfd.readouterr()
    assert "s3cret" not in "".join(warnings) + out + err


@pytest.mark.parametrize("status", [302, 308])
def test_a_redirect_leads_nowhere(receiver: Receiver, status: int) -> None:
    with http_receiver() as elsewhere:
        receiver.status, receiver.headers = status, {"Location": f"{elsewhere.url}/"}
        warnings = told(
            backup_notify_webhook=receiver.url, backup_notify=(f"json://127.0.0.1:{receiver.port}/",)
        )  # fmt: skip
        assert len(warnings) == 2
        assert "not followed" in warnings[1]
    assert elsewhere.requests == []


def test_a_hanging_place_does_not_keep_the_program_from_ending() -> None:
    code = """
import sys
from understudy import settings
from understudy.operations.notify import Event, notify
port = sys.argv[1]
everybody = settings.load(backup_notify=(f"json://127.0.0.1:{port}/?rto=60",), backup_notify_webhook=f"http://127.0.0.1:{port}/")
print(notify(everybody, Event("failure", "daily", "x"), deadline_s=1))
"""
    with silent_receiver() as silent:
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code, str(silent.port)], capture_output=True, text=True, timeout=30, check=False
        )
        assert time.monotonic() - begun < 8
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("within 1 s") == 2
    assert not done.stderr


def test_without_apprise_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert "[operations]'" in (by_apprise.send("json://127.0.0.1:1/", "", "", good=True) or "")
