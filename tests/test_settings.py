"""Flag, environment, file, default: in this order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from understudy import settings
from understudy.errors import UsageError
from understudy.valkey.configured import target_from
from understudy.valkey.target import Mode

COMPOSE = Path(__file__).parents[1] / "deploy" / "compose"
TOML = """
[redis]
nodes = ["10.0.0.1:7001", "10.0.0.2:7001"]
mode = "oss-cluster"

[backup]
chunk_keys = 500

[profile.prd.redis]
url = "rediss://backup@cache.example:6380"

[profile.prd.backup]
s3_uri = "s3://prod/sets"
"""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import os

    for name in list(os.environ):
        if name.startswith(("REDIS_", "BACKUP_", "UNDERSTUDY_", "S3_")) or name in ("ENV_PROFILE", "USE_CLUSTER"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_anything_there_are_defaults() -> None:
    found = settings.load()
    assert (found.profile, found.backup_dir, found.backup_chunk_keys) == ("local", Path("backups"), 100_000)
    assert target_from(found) is None


def test_flag_beats_environment_beats_file(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone / "understudy.toml").write_text(TOML)
    assert settings.load().backup_chunk_keys == 500
    monkeypatch.setenv("BACKUP_CHUNK_KEYS", "700")
    assert settings.load().backup_chunk_keys == 700
    assert settings.load(backup_chunk_keys=900).backup_chunk_keys == 900
    assert settings.load(backup_chunk_keys=None).backup_chunk_keys == 700


def test_a_profile_overrides_the_file(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone / "understudy.toml").write_text(TOML)
    target = target_from(settings.load())
    assert target and target.mode is Mode.OSS_CLUSTER
    assert [seed.host for seed in target.seeds] == ["10.0.0.1", "10.0.0.2"]
    monkeypatch.setenv("ENV_PROFILE", "prd")
    found = settings.load()
    assert found.backup_s3_uri == "s3://prod/sets"
    target = target_from(found)
    assert target and target.tls and target.username == "backup"
    assert [str(seed) for seed in target.seeds] == ["cache.example:6380"]
    monkeypatch.setenv("REDIS_NODES", "10.9.9.9:6379")
    target = target_from(settings.load())
    assert target and [str(seed) for seed in target.seeds] == ["10.9.9.9:6379"]
    assert (target.tls, target.username) == (None, None)


def test_nodes_override_hosts_and_the_access_key_is_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "rediss://me@somewhere:6380")
    monkeypatch.setenv("REDIS_NODES", "host1:7001, host2:7002")
    monkeypatch.setenv("REDIS_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("USE_CLUSTER", "true")
    found = settings.load()
    target = target_from(found)
    assert target
    assert [str(seed) for seed in target.seeds] == ["host1:7001", "host2:7002"]
    assert (target.username, target.password, target.mode) == ("me", "s3cret", Mode.OSS_CLUSTER)
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[backup]\nchunk_kyes = 1", "chunk_kyes"),
        ("[backup]\nchunk_keys = 'many'", "BACKUP_CHUNK_KEYS"),
        ("chunk_keys = 1", "outside of a section"),
        ("[backup", "understudy.toml"),
        ("[profile.dev]\n", "no profile 'prd'"),
    ],
)
def test_a_mistake_in_the_file_is_named(alone: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str) -> None:
    (alone / "understudy.toml").write_text(text)
    monkeypatch.setenv("ENV_PROFILE", "prd" if "profile" in text else "local")
    with pytest.raises(UsageError, match=says) as refusal:
        settings.load()
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("[backup]\nchunk_kyes = 1", r"did you mean 'chunk_keys' in \[backup\]\?"),
        ("[redsi]\nnodes = []", r"did you mean 'nodes' in \[redis\]\?"),
        ("[profile.local.postgres]\nuri = ''", r"did you mean 'url' in \[postgres\]\?"),
        ("[waitingroom]\ncolour = 'red'", r"in \[waitingroom\]$"),
        ("[weather]\nurl = ''", r"in \[weather\]$"),
    ],
)
def test_a_misspelt_setting_is_asked_after(alone: Path, text: str, asks: str) -> None:
    (alone / "understudy.toml").write_text(text)
    with pytest.raises(UsageError) as refusal:
        settings.load()
    assert re.search(asks, refusal.value.why)


def test_a_config_file_that_was_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_CONFIG", "nowhere.toml")
    with pytest.raises(UsageError, match=r"nowhere.toml"):
        settings.load()


def test_a_secret_may_come_as_a_file_below_the_environment(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone / "understudy.toml").write_text('[redis]\nnodes = ["10.0.0.1:1"]\npassword = "of the file"\n')
    (alone / "secret").write_text("pl4nted p4ss\r\n")
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(alone / "secret"))
    found = settings.load()
    assert found.redis_password and found.redis_password.get_secret_value() == "pl4nted p4ss"
    monkeypatch.setenv("REDIS_PASSWORD", "closer by")
    assert (found := settings.load()).redis_password and found.redis_password.get_secret_value() == "closer by"
    (alone / "url").write_text("redis://10.0.0.9:9")
    monkeypatch.setenv("REDIS_URL_FILE", str(alone / "url"))
    target = target_from(settings.load())
    assert target and str(target.seeds[0]) == "10.0.0.9:9"
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(alone / "gone"))
    with pytest.raises(UsageError, match="gone"):
        settings.load()


@pytest.mark.parametrize("text", ["", "\n", " \r\n"])
def test_an_empty_file_of_a_secret_is_refused_and_not_taken_for_none(
    text: str, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alone / "secret").write_text(text)
    monkeypatch.setenv("BACKUP_PASSPHRASE_FILE", str(alone / "secret"))
    with pytest.raises(UsageError, match="is empty") as told:
        settings.load()
    assert "BACKUP_PASSPHRASE_FILE" in str(told.value.hint)


def test_the_compose_stack_s_file_without_a_secret_means_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUP_PASSPHRASE_FILE", str(COMPOSE / "stack-no-secret"))
    assert settings.load().backup_passphrase is None
