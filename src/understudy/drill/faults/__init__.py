"""The faults, one file each."""

from __future__ import annotations

from collections.abc import Iterable

from understudy.drill.fault import Fault, Value
from understudy.drill.faults.failover import Failover
from understudy.drill.faults.full_memory import FullMemory
from understudy.drill.faults.kill import Kill
from understudy.drill.faults.kill_clients import KillClients
from understudy.drill.faults.migrate import Migrate
from understudy.drill.faults.partition import Partition
from understudy.drill.faults.pause import Pause
from understudy.drill.faults.replace import Replace
from understudy.drill.faults.restart import Restart
from understudy.drill.faults.sentinel_failover import SentinelFailover
from understudy.drill.faults.slow import Slow
from understudy.errors import UsageError

_ALL: tuple[Fault, ...] = (
    Kill(),
    Pause(),
    Restart(),
    Failover(),
    SentinelFailover(),
    Partition(),
    Slow(),
    Replace(),
    Migrate(),
    FullMemory(),
    KillClients(),
)
FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}


def find_fault(name: str, layout: str | None = None) -> Fault:
    """Return a fault by its name, which must make sense in the layout, if one is given.

    Raises:
        UsageError: there is none of that name, or it does not.
    """
    if name not in FAULTS:
        raise UsageError(
            f"looking for the fault {name!r}", "there is none of that name", f"One of: {', '.join(FAULTS)}."
        )
    fault = FAULTS[name]
    if layout is not None and layout not in fault.layouts:
        others = ", ".join(one.name for one in _ALL if layout in one.layouts)
        raise UsageError(
            f"looking for the fault {name!r}", f"the layout {layout} has none of that kind", f"One of: {others}."
        )
    return fault


def params_for(fault: Fault, given: Iterable[str] = ()) -> dict[str, Value]:
    """Return a fault's parameters, those given as `name=value` instead of its defaults.

    Raises:
        UsageError: it has no such parameter, or the value is of another kind.
    """
    params = dict(fault.defaults)
    for text in given:
        name, sign, value = text.partition("=")
        if name not in fault.defaults or not sign:
            known = ", ".join(f"{key}={written(value)}" for key, value in fault.defaults.items())
            raise UsageError(
                f"setting {text!r} of the fault {fault.name}",
                "it has no such parameter" if sign else "it is not name=value",
                f"It has {known}." if known else "It has none.",
            )
        params[name] = _read(fault, name, value)
    return params


def _read(fault: Fault, name: str, text: str) -> Value:
    default = fault.defaults[name]
    try:
        if isinstance(default, bool):
            return {"true": True, "yes": True, "false": False, "no": False}[text.lower()]
        value = type(default)(text)
        if not isinstance(value, str) and not 0 <= value < float("inf"):
            raise ValueError
        return value
    except (KeyError, ValueError):
        kind = {bool: "true or false", int: "a whole number, 0 or more", float: "a number, 0 or more"}[type(default)]
        raise UsageError(
            f"setting {name} of the fault {fault.name}", f"{text!r} is not {kind}", f"{name}={written(default)}"
        ) from None


def written(value: Value) -> str:
    """Return a value as it is typed."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
