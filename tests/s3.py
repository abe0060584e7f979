"""A real S3 server on loopback, which checks credentials: moto's, as a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from support import eventually
from understudy.lab.ports import claim_few

BUCKET = "my-bucket"
PROFILE = "toy-root"
_SETUP_CALLS = 7  # what `_prepare` asks before credentials are checked


@dataclass(frozen=True)
class S3Server:
    """Where it listens, and the environment in which a client finds its credentials."""

    endpoint: str
    credentials: Path
    process: subprocess.Popen[bytes]

    @property
    def env(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_SHARED_CREDENTIALS_FILE": str(self.credentials),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_PROFILE": PROFILE,
            "AWS_SDK_LOAD_CONFIG": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def s3_server(folder: Path, host: str = "127.0.0.1") -> Iterator[S3Server]:
    """Run the server with one bucket, one user who may do all and one who may do nothing; their keys stand in a shared
    credentials file. `host` is where it listens.
    """
    block = claim_few()
    port = block.first
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("moto_server")), "-H", host, "-p", str(port)],
        env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(_SETUP_CALLS)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://{host}:{port}"
    try:
        eventually(lambda: _listens(host, port), within_s=30)
        yield S3Server(endpoint, _prepare(endpoint, folder), process)
    finally:
        process.kill()
        process.wait()
        block.release()


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def _prepare(endpoint: str, folder: Path) -> Path:
    options = {
        "endpoint_url": endpoint,
        "region_name": "us-east-1",
        "aws_access_key_id": "anybody",
        "aws_secret_access_key": "anything",
        "config": Config(retries={"max_attempts": 1}),
    }
    iam, s3 = boto3.client("iam", **options), boto3.client("s3", **options)
    iam.create_user(UserName=PROFILE)
    key = iam.create_access_key(UserName=PROFILE)["AccessKey"]
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    policy = iam.create_policy(PolicyName="all", PolicyDocument=document)["Policy"]["Arn"]
    iam.attach_user_policy(UserName=PROFILE, PolicyArn=policy)
    iam.create_user(UserName="no-rights")
    bare = iam.create_access_key(UserName="no-rights")["AccessKey"]
    s3.create_bucket(Bucket=BUCKET)
    path = folder / "credentials"
    path.write_text(
        f"[{PROFILE}]\naws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
        f"[wrong-secret]\naws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = wrong\n"
        f"[no-rights]\naws_access_key_id = {bare['AccessKeyId']}\naws_secret_access_key = {bare['SecretAccessKey']}\n"
        "[unknown]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wrong\n"
    )
    return path


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A credential-checking S3 server, for the whole session."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_env(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The same, with the environment set in which it is found."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    return s3
