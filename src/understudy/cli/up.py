"""`understudy up`: start a layout."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy import installed
from understudy.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from understudy.lab.named import Outcome


def command(
    layout: Annotated[str, typer.Argument(help="standalone, sentinel, cluster or enterprise.")],
    name: Annotated[str | None, typer.Option(help="The lab's name; the layout's unless given.")] = None,
    port: Annotated[int | None, typer.Option(help="The first port: 7001 unless given, 6379 for standalone.")] = None,
    primaries: Annotated[int | None, typer.Option(help="Primaries of a cluster (3).")] = None,
    replicas: Annotated[int | None, typer.Option(help="Replicas of each primary (1; sentinel 2).")] = None,
    server: Annotated[
        str | None,
        typer.Option(help="Another valkey-server or redis-server, 6.2 or newer.", envvar="UNDERSTUDY_SERVER"),
    ] = None,
    password: Annotated[
        str | None,
        typer.Option(
            help="Ask for this password. What is typed here shows in `ps`: prefer the variable or the file.",
            envvar="UNDERSTUDY_PASSWORD",
            show_envvar=True,
        ),
    ] = None,
    password_file: Annotated[Path | None, typer.Option(help="Read the password from this file.")] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS, with certificates made on the spot.")] = False,
    persist: Annotated[bool, typer.Option("--persist", help="Keep the data through `down` and `up`.")] = False,
    node_timeout: Annotated[
        int, typer.Option(metavar="MS", help="A cluster node is failed after this long without an answer.")
    ] = 2000,
    down_after: Annotated[
        int, typer.Option(metavar="MS", help="A sentinel calls a server down after this long without an answer.")
    ] = 1000,
    runs_as: Annotated[
        str, typer.Option("--with", metavar="WHAT", help="here: processes of this machine; docker: containers.")
    ] = "here",
    image: Annotated[
        str | None, typer.Option(help="The containers' image: VALKEY_IMAGE, or valkey/valkey:9 unless given.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="The containers' network: host on Linux, bridge elsewhere, unless given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start real servers on this machine as one LAYOUT, and leave them running.

    Repeating it is harmless: what died is started again.

    \b
    Examples:
      understudy up cluster
      understudy up sentinel --name ha --port 7301
      UNDERSTUDY_PASSWORD=secret understudy up cluster --tls --persist
      understudy up cluster --with docker
      understudy up standalone --with docker --image redis:7.2 --name old --port 7401
    """
    from understudy.errors import UsageError
    from understudy.lab.layouts import options_for
    from understudy.lab.named import up

    if password_file is not None:
        try:
            password = password_file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"reading the password from {password_file}", str(error)) from error
    options = options_for(
        layout,
        port=port,
        primaries=primaries,
        replicas=replicas,
        server=server,
        password=password,
        tls=tls,
        persist=persist,
        node_timeout_ms=node_timeout,
        down_after_ms=down_after,
        image=_image(runs_as, image, network),
        network=network,
    )
    if options.image is not None and not as_json:
        print(f"Containers of {options.image}, on the network {options.network}.", file=sys.stderr)
    outcome = up(name or layout, options)
    if as_json:
        print_json(_as_data(outcome))
    else:
        _print(outcome)


def _image(runs_as: str, image: str | None, network: str | None) -> str | None:
    """Return the image of a lab in containers; None for one of processes."""
    from understudy.errors import UsageError
    from understudy.lab import docker

    if runs_as == "docker":
        return image or os.environ.get(docker.IMAGE_VARIABLE) or docker.IMAGE
    if runs_as != "here":
        raise UsageError("starting a lab", f"there is no --with {runs_as}", "--with here, or --with docker.")
    if image or network:
        raise UsageError("starting a lab", "--image and --network are for containers", "Add --with docker.")
    return None


def _as_data(outcome: Outcome) -> dict[str, Any]:
    lab = outcome.lab
    target = lab.target()
    return {
        "name": lab.name,
        "layout": lab.layout,
        "did": outcome.did,
        "healed": list(outcome.healed),
        "mode": target.mode.value,
        "seeds": [str(seed) for seed in target.seeds],
        "tls_ca": target.tls.ca_file if target.tls else None,
        "directory": str(lab.directory),
        "nodes": [
            {
                "name": node.name,
                "role": node.role,
                "address": str(node.address),
                "pid": node.pid,
                "container": node.container,
            }
            for node in lab.nodes
        ],
    }


def _print(outcome: Outcome) -> None:
    from understudy.lab.named import left_over

    lab = outcome.lab
    target = lab.target()
    boxed = sum(node.container is not None for node in lab.nodes)
    counted = [_counted(boxed, "container", "containers"), _counted(len(lab.nodes) - boxed, "process", "processes")]
    print(f"The lab {lab.name} is up: {' and '.join(filter(None, counted))} on {lab.binary}.")
    if outcome.healed:
        print(f"Started again: {', '.join(outcome.healed)}.")
    shown = [node for node in lab.nodes if node.kind != "envoy" or lab.layout == "enterprise"]
    print_table(("NODE", "STARTED AS", "ADDRESS"), [(node.name, node.role, str(node.address)) for node in shown])
    ours = installed.typed()
    name = "" if lab.name == lab.layout and left_over() == [lab.name] else f" --name {lab.name}"
    words = ["redis-cli", "-p", str(target.seeds[0].port)]
    words += ["-c"] if lab.layout == "cluster" else []
    words += ["--askpass"] if target.password is not None else []
    words += ["--tls", "--cacert", str(target.tls.ca_file)] if target.tls else []
    print("\nNext:")
    print(f"  {ours} status{name}")
    print(f"  export REDIS_MODE={target.mode.value} REDIS_NODES={target}")
    if target.tls:
        print(f"  export REDIS_TLS=true REDIS_TLS_CA={target.tls.ca_file}")
    if target.password is not None:
        names = ["REDIS_PASSWORD"] + ["REDIS_SENTINEL_PASSWORD"] * (lab.layout == "sentinel")
        print(f"  export {' '.join(f'{name}=…' for name in names)}")
    words += ["sentinel", "masters"] if lab.layout == "sentinel" else ["ping"]
    print(f"  {' '.join(words)}    # if you have redis-cli")
    print(f"  {ours} logs -f{name}")
    print(f"  {ours} down{name}")


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}" if number else ""
