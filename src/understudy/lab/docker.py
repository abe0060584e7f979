"""The `docker` command line: what engine it finds, and what that says of containers.

The command and not the engine's API: so an engine is found as the user's own commands find it (context, DOCKER_HOST).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

from understudy.errors import NotAuthorisedError, NotFoundError, ServerSaidError, UnderstudyError, UnreachableError
from understudy.lab.servers.valkey import Binary, read_version

IMAGE = "valkey/valkey:9"
IMAGE_VARIABLE = "VALKEY_IMAGE"
_WITHIN_S = 60.0
_PULLED_WITHIN_S = 600.0
_FRESH_S = 0.1
_PROGRAMS = ("valkey-server", "redis-server")
_ANY_CASE = re.IGNORECASE
_REFUSED = "Error response from daemon: "
_WORDS = {"running": "running", "paused": "paused"}


def on_path() -> bool:
    """Return whether there is a `docker` command; nothing is asked of it."""
    return shutil.which("docker") is not None


def call(doing: str, *words: str, within_s: float = _WITHIN_S) -> str:
    """Run one docker command and return what it printed.

    Raises:
        NotFoundError: there is no such command, or the image or container is not there.
        UnreachableError: no engine answers.
        NotAuthorisedError: the engine is not for us.
        ServerSaidError: the engine refused.
    """
    try:
        ran = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=within_s)
    except FileNotFoundError:
        raise NotFoundError(
            doing, "there is no `docker` command", "Install Docker; or leave `--with docker` out: it takes none."
        ) from None
    except subprocess.TimeoutExpired:
        raise UnreachableError(doing, f"`docker {words[0]}` did not end within {within_s:g} s", "docker info") from None
    if ran.returncode != 0:
        raise _error(doing, ran.stderr)
    return ran.stdout


def _error(doing: str, said: str) -> UnderstudyError:
    lines = [line for line in said.splitlines() if line and not line.startswith(("Run 'docker", "See 'docker"))]
    named = [line.partition(_REFUSED)[2] for line in lines if _REFUSED in line]
    why = (named or lines or ["it did not say why"])[-1]
    if "permission denied" in why.lower() and "docker" in why.lower():
        return NotAuthorisedError(doing, why, "Be in the group `docker`, from the next login on.")
    if re.search("cannot connect|is the docker daemon running|error during connect|failed to connect", said, _ANY_CASE):
        return UnreachableError(
            doing, why, "Start Docker, or say where it is (DOCKER_HOST, `docker context`): `docker info` must answer."
        )  # fmt: skip
    if "Unable to find image" in said or re.search("pull access denied|manifest unknown|no such image", why, _ANY_CASE):
        found = re.search(r"find image '([^']+)'", said)
        name = found[1] if found else "IMAGE"
        return NotFoundError(
            doing, f"the image is not here, and could not be pulled: {why}", f"docker pull {name}; or --image."
        )
    return ServerSaidError(doing, why)


class Engine(NamedTuple):
    """What matters of an engine: whether its containers can have this machine's network, and as whom they write."""

    host_network: bool
    user: str
    options: tuple[str, ...]


@cache
def engine(doing: str) -> Engine:
    """Ask the engine what it is.

    Docker Desktop and rootless Docker run containers on another network than this machine's. In rootless Docker the
    user outside is root inside.

    Raises:
        UnderstudyError: as `call`.
    """
    said = call(doing, "info", "--format", "{{.OperatingSystem}}|{{range .SecurityOptions}}{{.}} {{end}}")
    system, _, security = said.strip().partition("|")
    if not system:  # `docker info` tells of an engine that does not answer on stderr, and may end well
        raise UnreachableError(doing, "no Docker engine answers", "Start Docker; `docker info` must show a server.")
    rootless = "name=rootless" in security
    options = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    options += ["--userns", "host"] if "name=userns" in security else []
    options += ["--security-opt", "label=disable"] if "name=selinux" in security else []
    user = "0:0" if rootless else f"{os.getuid()}:{os.getgid()}"
    here = sys.platform == "linux" and "Docker Desktop" not in system and not rootless
    return Engine(here, user, tuple(options))


@cache
def identify(image: str) -> Binary:
    """Return the server program of an image and its version; the image is pulled where it is not there.

    Raises:
        NotFoundError: there is no such image, or no server in it.
    """
    doing = f"asking the image {image} for its server"
    for program in _PROGRAMS:
        words = ("run", "--rm", "--network", "none", "--entrypoint", program, image, "--version")
        try:
            return read_version(program, call(doing, *words, within_s=_PULLED_WITHIN_S))
        except ServerSaidError as error:
            if "executable file not found" not in error.why and "no such file" not in error.why:
                raise
    raise NotFoundError(doing, f"it has neither {' nor '.join(_PROGRAMS)}", f"Name another --image, such as {IMAGE}.")


class Container(NamedTuple):
    """A container by its id, which is never used twice, and its name."""

    id: str
    name: str

    @property
    def pid(self) -> int | None:
        """Return the pid of its first process where the engine's pids are this machine's; None while none runs."""
        return _seen(self.id)[1] if sys.platform == "linux" else None

    @property
    def container(self) -> str:
        """Return the name that `docker` commands take."""
        return self.name

    def state(self) -> str:
        """Return `running`, `paused` or `dead`; dead too where no engine answers."""
        return _seen(self.id)[0]

    def pause(self) -> bool:
        """Freeze every process of it; False where it does not run."""
        return self._told("pause")

    def resume(self) -> bool:
        """Let it go on."""
        return self._told("unpause")

    def said(self, lines: int) -> str:
        """Return the last lines that it wrote."""
        ran = subprocess.run(
            ["docker", "logs", "--tail", str(lines), self.id],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
        return ran.stdout.rstrip("\n")

    def as_data(self) -> list[int | str]:
        """Return it as the state file keeps it."""
        return ["container", self.id, self.name]

    def _told(self, word: str) -> bool:
        try:
            call(f"telling the container {self.name} to {word}", word, self.id)
        except (ServerSaidError, NotFoundError):
            return False
        finally:
            forget_states()
        return True


_asked: set[str] = set()
_states: dict[str, tuple[str, int | None]] = {}
_states_at = [float("-inf")]


def forget_states() -> None:
    """Look anew when a container's state is asked next."""
    _states_at[0] = float("-inf")


def _seen(container: str) -> tuple[str, int | None]:
    """Return a container's state and pid, a tenth of a second old at most. One command asks for all of them."""
    if container not in _asked or time.monotonic() > _states_at[0] + _FRESH_S:
        _asked.add(container)
        words = ["docker", "inspect", "--type", "container", "--format", "{{.Id}} {{.State.Status}} {{.State.Pid}}"]
        try:
            said = subprocess.run(
                [*words, *_asked], capture_output=True, text=True, check=False, timeout=_WITHIN_S
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            said = ""
        # where some are gone, an empty line stands for them
        rows = [line.split(" ") for line in said.splitlines() if line]
        found = {name: (_WORDS.get(state, "dead"), int(pid) or None) for name, state, pid in rows}
        _states.clear()
        _states.update(found)
        _states_at[0] = time.monotonic()
    return _states.get(container, ("dead", None))


def act(doing: str, word: str, containers: Sequence[Container], *words: str) -> None:
    """Do the same to several containers side by side: `docker start A`, `docker start B`.

    Raises:
        UnderstudyError: as `call`, of the first that failed.
    """
    together([(doing, word, *words, one.id) for one in containers])
    forget_states()


def together(calls: Sequence[Sequence[str]]) -> list[str]:
    """Run commands side by side, each as `call` takes it, and return what they printed."""
    with ThreadPoolExecutor(max(1, min(len(calls), 8))) as pool:
        return [one.result() for one in [pool.submit(call, *words) for words in calls]]


def mount(place: Path) -> list[str]:
    """Return the options that give a container a directory of ours, at the same path, whatever stands in it."""
    quoted = str(place).replace('"', '""')
    return ["--mount", f'type=bind,"source={quoted}","target={quoted}"']
