"""Whether a Docker engine and an image of a Valkey server are here, for the tests that need them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

import pytest

_IMAGES = ("understudy-test/valkey:latest", "valkey/valkey:9")


def docker(*words: str) -> str:
    """What a docker command printed; an error where it failed."""
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True, timeout=120).stdout


def _answers(*words: str) -> bool:
    try:
        ran = subprocess.run(["docker", *words], capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.returncode == 0 and bool(ran.stdout.strip())


@cache
def server_image() -> tuple[str, str]:
    """An image that is here already, and why there is none."""
    if shutil.which("docker") is None:
        return "", "there is no `docker` command"
    if not _answers("info", "--format", "{{.ServerVersion}}"):
        return "", "no Docker engine answers"
    named = os.environ.get("VALKEY_IMAGE")
    for image in [named] if named else _IMAGES:
        if _answers("image", "inspect", "--format", "{{.Id}}", image):
            return image, ""
    return "", "no Valkey image is here (docker pull valkey/valkey:9, or sh tests/docker/images.sh)"


@cache
def compose() -> Sequence[str]:
    """The compose command that is here: the plugin, else docker-compose; empty where there is neither."""
    if _answers("compose", "version"):
        return ("docker", "compose")
    return ("docker-compose",) if shutil.which("docker-compose") else ()


@cache
def image_there(name: str) -> bool:
    """Whether the engine has this image."""
    return shutil.which("docker") is not None and _answers("image", "inspect", "--format", "{{.Id}}", name)


def ours() -> dict[str, str]:
    """The environment that names what tests/docker/images.sh made here, for compose files and the Dockerfile."""
    found = {}
    for variable, name in (("VALKEY_IMAGE", "valkey"), ("POSTGRES_IMAGE", "postgres"), ("BASE_IMAGE", "python")):
        if image_there(f"understudy-test/{name}:latest"):
            found[variable] = f"understudy-test/{name}:latest"
    if "BASE_IMAGE" in found:
        found["BUILD_ARGS"] = "--network host --build-arg PIP_CERT=/etc/ssl/certs/ca-certificates.crt"
    return {variable: value for variable, value in found.items() if variable not in os.environ}


needs_engine = pytest.mark.skipif(
    not (shutil.which("docker") and _answers("info", "--format", "{{.ServerVersion}}")),
    reason="no Docker engine answers",
)
