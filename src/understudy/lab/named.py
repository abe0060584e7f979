"""Labs that outlive the command which started them: up, down, clean, and which of them run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields

from understudy.errors import IntegrityError, NotFoundError, RefusedError, UsageError
from understudy.lab import adopted, containers, docker, runner, server, state
from understudy.lab.layout import Options, listening_ports
from understudy.lab.layouts import find_layout
from understudy.lab.live import Lab
from understudy.lab.ports import holder, taken
from understudy.lab.servers.valkey import find_binary
from understudy.lab.state import Record
from understudy.valkey.target import Target


@dataclass(frozen=True)
class Outcome:
    """What `up` did: `started`, `healed` (and which nodes), or nothing because it was `running`."""

    lab: Lab
    did: str
    healed: tuple[str, ...] = ()


def up(name: str, options: Options) -> Outcome:
    """Bring a lab up, or what died of it, or nothing where it runs as asked.

    Raises:
        RefusedError: a lab of this name has other options, or a port is taken.
        StartError: a server died, or the lab was not usable in time.
    """
    layout = find_layout(options.layout)
    layout.check(options)
    if options.image is None:
        find_binary(options.server)
    with state.locked(name):
        record = state.read(name)
        if record is not None and not record.formed:
            _end(record)  # an `up` that was interrupted: what it left is of no use
            record = None
        if record is not None and record.options != options:
            if record.alive or record.options.persist:
                raise _other_options(record, options)
            _end(record)
            record = None
        if record is not None and (record.alive or record.options.persist):
            return _again(record)
        if record is not None:
            _end(record)
        state.forget(name, keep_logs=True)
        return _fresh(name, options)


def _fresh(name: str, options: Options) -> Outcome:
    directory = state.directory(name)
    planned = find_layout(options.layout).plan(options, directory)
    _refuse_taken(name, listening_ports(planned, cluster=options.layout in {"cluster", "enterprise"}))
    lab = _lab(Record(name, options))
    if options.image is not None:
        docker.identify(options.image)  # pulled here, and not while a deadline runs
        containers.sweep(directory)
    try:
        state.write(Record(name, options))
        lab.bring_up()
        state.write(Record(name, options, lab.nodes, formed=True))
    except BaseException:
        _end(Record(name, options, lab.nodes))
        raise
    server.disown(lab.nodes)
    return Outcome(lab, "started")


def _again(record: Record) -> Outcome:
    lab = _lab(record)
    dead = [node for node in record.nodes if not node.alive]
    paused = any(node.state == "paused" for node in record.nodes)
    if not dead and not paused:
        return Outcome(lab, "running")
    cluster = record.options.layout in {"cluster", "enterprise"}
    if not (record.options.bridged and record.alive):  # else Docker holds the ports for them
        _refuse_taken(record.name, listening_ports(dead, cluster=cluster), fronted=record.alive)
    before = record.alive
    try:
        healed = lab.heal()
    except BaseException:
        if not before:
            lab.stop()
        raise
    server.disown(lab.nodes)
    return Outcome(lab, "healed", tuple(node.name for node in healed)) if before else Outcome(lab, "started")


def down(name: str) -> bool:
    """End a lab, keep its logs, and its data where it was started with `persist`; False where none ran.

    Raises:
        NotFoundError: no lab of this name was ever started, or it was cleaned away.
    """
    with state.locked(name):
        record = state.read(name)
        if record is None:
            if not state.directory(name).is_dir():
                raise adopted.not_ours(name, "down") or _unknown(name)
            if docker.on_path():  # what a killed `up` had begun may have come after the last `down`
                containers.sweep(state.directory(name), suppress=True)
            return False
        ran = record.alive
        if record.options.persist and record.formed:
            _lab(record).stop()
        else:
            _end(record)
        return ran


def clean(name: str, *, force: bool = False) -> None:
    """Remove everything of a lab that does not run; `force` ends one that does.

    Raises:
        RefusedError: it runs.
        NotFoundError: there is none of this name.
    """
    with state.locked(name):
        if not state.directory(name).is_dir():
            raise adopted.not_ours(name, "down --volumes") or _unknown(name)
        try:
            record = state.read(name)
        except IntegrityError:
            if not force:
                raise
            record = None
            if docker.on_path():  # nobody knows what it ran in
                containers.sweep(state.directory(name), suppress=True)
        if record is not None and record.alive:
            if not force:
                raise RefusedError(
                    f"cleaning the lab {name}", "it is running", f"understudy down --name {name}, or add --force."
                )
            runner.stop(record.nodes)
        if record is not None and record.options.image is not None:
            containers.sweep(state.directory(name), suppress=force)
        state.forget(name, keep_logs=False)


def records() -> list[Record]:
    """Return every lab that has a state file which can be read: running, dead, or stopped with its data kept."""
    found = []
    for name in state.names():
        with contextlib.suppress(IntegrityError):
            record = state.read(name)
            if record is not None:
                found.append(record)
    return found


def running() -> list[Lab]:
    """Return the labs of this machine of which at least one process lives."""
    return [_lab(record) for record in records() if record.alive]


def here_or_adopted() -> list[Lab]:
    """Return the labs of this machine; where there is none, those that Docker has without us, if it is there."""
    return running() or adopted.running()


def left_over() -> list[str]:
    """Return the names of the labs that `down` has something to do for: running, interrupted, or dead."""
    return [record.name for record in records() if record.alive or not record.formed or not record.options.persist]


def only_one(doing: str, candidates: list[str], hint: str = "Choose with --name, or --all.") -> str | None:
    """Return the one lab that a command without a name can mean; None where there is none.

    Raises:
        UsageError: there are several.
    """
    if len(candidates) > 1:
        raise UsageError(doing, f"there are several labs: {', '.join(candidates)}", hint)
    return candidates[0] if candidates else None


def find(name: str) -> Lab:
    """Return a lab by its name, running or not: one of ours, else one that Docker has under that name without us.

    Raises:
        NotFoundError: there is none, or only its logs are left.
    """
    record = state.read(name)
    if record is not None:
        return _lab(record)
    theirs = adopted.find(name)
    if theirs is None:
        raise _unknown(name)
    return theirs


def default_target() -> Target | None:
    """Return how to reach the one lab that runs on this machine; None where none or several do."""
    labs = running()
    return labs[0].target() if len(labs) == 1 else None


def _lab(record: Record) -> Lab:
    # Once formed, always formed: a heal writes down processes and nothing else.
    return Lab(
        record.name,
        record.options,
        state.directory(record.name),
        lambda nodes: state.write(record.with_nodes(nodes)),
        record.nodes,
    )


def _end(record: Record) -> None:
    runner.stop(record.nodes)
    if record.options.image is not None:
        containers.sweep(state.directory(record.name))
    state.forget(record.name, keep_logs=True)


def _refuse_taken(name: str, ports: dict[int, str], *, fronted: bool = False) -> None:
    """Refuse ports that somebody listens on; `fronted` skips those that our own living Envoy may own."""
    for port, node in sorted(ports.items()):
        if not taken(port):
            continue
        theirs = lab_on(port)
        if fronted and theirs == name:
            continue
        who = f"the lab {theirs!r}" if theirs else holder(port) or "another program"
        raise RefusedError(
            f"starting the lab {name}",
            f"port {port} for {node} is taken by {who}",
            f"understudy down --name {theirs}, or another --port." if theirs else "End it, or name another --port.",
        )


def lab_on(port: int) -> str | None:
    """Return the name of the lab that listens on a port, if one does."""
    for record in records():
        alive = [node for node in record.nodes if node.alive]
        # Envoy listens on the public ports of the servers behind it, dead ones too.
        nodes = record.nodes if any(node.kind == "envoy" for node in alive) else alive
        cluster = record.options.layout in {"cluster", "enterprise"}
        if port in listening_ports(nodes, cluster=cluster):
            return record.name
    return None


def _other_options(record: Record, asked: Options) -> RefusedError:
    differ = []
    boxed, wanted = record.options.image, asked.image
    if not (boxed and wanted) and boxed != wanted:
        differ.append(f"--with docker, image {boxed}" if boxed else "no --with docker")
    for field in fields(Options):
        had, wants = getattr(record.options, field.name), getattr(asked, field.name)
        if had != wants and (field.name not in {"image", "network"} or (boxed and wanted)):
            flag = "--" + field.name.removesuffix("_ms").replace("_", "-")
            if field.name == "password":
                differ.append("another password")
            elif isinstance(had, bool):
                differ.append(flag if had else f"no {flag}")
            else:
                differ.append(f"{flag} {had}, not {wants}")
    what = "it runs with" if record.alive else "its data was kept with"
    end = f"understudy down --name {record.name}" if record.alive else f"understudy clean --name {record.name}"
    return RefusedError(
        f"starting the lab {record.name}",
        f"{what} {'; '.join(differ)}",
        f"Repeat the command with the same options, or `{end}` first, or choose another --name.",
    )


def _unknown(name: str) -> NotFoundError:
    known = ", ".join(state.names())
    return NotFoundError(
        f"looking for the lab {name!r}",
        "there is none of that name",
        f"One of: {known}." if known else "Start one: understudy up cluster",
    )
