"""A scenario: what is broken, under which load, and what may it cost. A short TOML file; see `docs/drills.md`."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from understudy.drill.client import Preset
from understudy.drill.clients import RECOMMENDED_DEADLINE_S, find_preset
from understudy.drill.fault import Value
from understudy.drill.faults import find_fault, params_for
from understudy.drill.findings import Budget
from understudy.errors import NotFoundError, UsageError

LayoutName = Literal["standalone", "sentinel", "cluster", "enterprise"]
FOLDER = Path(__file__).parent / "scenarios"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, data: Any) -> Any:
        for name, value in data.items() if isinstance(data, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise ValueError(f"{name} is not to be true or false")
        return data


class Workload(_Strict):
    """The load of each client. Rates are operations/s; shares are of 1, and what is left are reads."""

    rate: float = Field(default=100.0, gt=0, le=20_000)
    sets: float = Field(default=0.4, ge=0, le=1)
    appends: float = Field(default=0.2, ge=0, le=1)
    keys: int = Field(default=0, ge=0)
    before_s: float = Field(default=3.0, ge=0.5, le=3600)
    after_s: float = Field(default=10.0, ge=0.5, le=3600)
    idle_after_s: float = Field(default=5.0, ge=0, le=3600)


class FaultPlan(_Strict):
    """Which fault, on which nodes (in words), for how long; None: to the end."""

    kind: str
    nodes: tuple[str, ...] = ()
    hold_s: float | None = Field(default=None, gt=0, le=3600)
    set: dict[str, Value] = {}

    def params(self, layout: str) -> dict[str, Value]:
        """Return the fault's parameters, its defaults where nothing is said.

        Raises:
            UsageError: there is no such fault in this layout, or it has no such parameter.
        """
        return params_for(find_fault(self.kind, layout), (f"{name}={value}" for name, value in self.set.items()))


class Own(_Strict):
    """A client of the user's own; see `drill.client.Preset`."""

    library: str = "redis-py"
    base: Literal["defaults", "recommended", "one-try"] = "defaults"
    mode: Literal["standalone", "sentinel", "oss-cluster", "enterprise"] | None = None
    stable: bool = False
    deadline_s: float | None = Field(default=None, gt=0)
    settings: dict[str, Value] = {}

    def preset(self, name: str) -> Preset:
        """Return it as a preset; one that is based on `recommended` has its deadline unless it names another."""
        usual = RECOMMENDED_DEADLINE_S if self.base == "recommended" else None
        return Preset(name=name, **{**dict(self), "deadline_s": self.deadline_s or usual})


class LabOptions(_Strict):
    """Options of the layout, as `understudy up` has them; what is not given is the layout's own choice."""

    primaries: int | None = Field(default=None, ge=1)
    replicas: int | None = Field(default=None, ge=0)
    node_timeout_ms: int | None = Field(default=None, ge=100)
    down_after_ms: int | None = Field(default=None, ge=100)
    persist: bool = False
    tls: bool = False


class Leg(_Strict):
    """One run of a scenario: a layout, a fault, and the clients that meet it side by side.

    `judge` names the clients that the verdict is about; empty: `recommended` where that takes part, else all. `crud`
    tries create, read, update and delete before and after, `moved` whether a client follows a redirection. `explain`
    stands on the page.
    """

    name: str = ""
    layout: LayoutName
    lab: LabOptions = LabOptions()
    clients: tuple[str, ...] = ("defaults", "recommended")
    judge: tuple[str, ...] = ()
    crud: bool = False
    moved: bool = False
    explain: tuple[str, ...] = ()
    workload: Workload = Workload()
    fault: FaultPlan | None = None
    client: dict[str, Own] = {}

    def presets(self) -> tuple[Preset, ...]:
        """Return the clients.

        Raises:
            NotFoundError: a name is not known.
        """
        own = {name: one.preset(name) for name, one in self.client.items()}
        return tuple(find_preset(name, own) for name in self.clients)

    @property
    def judged(self) -> frozenset[str]:
        """Return the clients that the verdict is about."""
        return frozenset(self.judge) or frozenset({"recommended"} & set(self.clients)) or frozenset(self.clients)


class Matrix(_Strict):
    """Every one of these faults in every one of these layouts where it makes sense; some are held only so long."""

    layouts: tuple[LayoutName, ...]
    faults: tuple[str, ...]
    hold_s: dict[str, float] = {}

    def legs(self) -> Iterator[dict[str, Any]]:
        """Return the legs, as they would be written.

        Raises:
            UsageError: a fault is not known, or is held that is not among them.
        """
        if others := set(self.hold_s) - set(self.faults):
            raise UsageError("planning a matrix", f"hold_s names {min(others)!r}, which is not among its faults")
        for layout in self.layouts:
            for kind in self.faults:
                if layout in find_fault(kind).layouts:
                    fault = {"kind": kind, "hold_s": self.hold_s.get(kind)}
                    yield {"name": f"{layout}, {kind}", "layout": layout, "fault": fault}


class Limits(_Strict):
    """See `drill.findings.Budget`."""

    max_downtime_s: float | None = Field(default=None, ge=0)
    max_lost: int | None = Field(default=None, ge=0)
    max_stale: int | None = Field(default=None, ge=0)
    max_doubled: int | None = Field(default=None, ge=0)
    max_drift_ms: float = Field(default=Budget.max_drift_ms, gt=0)


class _Parts(BaseModel):
    """What a document holds beside what every leg takes over from it."""

    about: str = ""
    budget: Limits
    legs: list[dict[str, Any]] = []
    matrix: Matrix | None = None


class Scenario(_Strict):
    """Legs that are run one after the other, and what they may cost."""

    name: str
    about: str
    legs: tuple[Leg, ...]
    budget: Budget


SALE = "sale"  # a drill too, that the command line runs by itself


def names() -> list[str]:
    """Return the scenarios that come with us."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str, overrides: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario of ours by its name, or a user's own by its path; `overrides` go on top of every leg.

    Raises:
        NotFoundError: there is none, or a name in it is not known.
        UsageError: it cannot be read, or asks for what makes no sense.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        listed = sorted([*names(), SALE])
        meant = difflib.get_close_matches(name.lower(), listed, n=1)
        why = f"there is none; did you mean {meant[0]!r}?" if meant else "there is none"
        hint = f"One of {', '.join(listed)}; or a path to a .toml."
        raise NotFoundError(f"looking for the scenario {name!r}", why, hint) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"reading {path}", str(error), "See docs/drills.md for the format.") from error
    try:
        return _scenario(path.stem, document, overrides or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        doing = f"planning the drill {path.stem}{f', {where}' if where else ''}"
        raise UsageError(doing, first["msg"], "See docs/drills.md for the format.") from None


def _scenario(name: str, document: dict[str, Any], overrides: Mapping[str, Any]) -> Scenario:
    parts = _Parts(**_over(document, {"budget": overrides.get("budget", {})}))
    if parts.matrix and parts.legs:
        raise UsageError(f"planning the drill {name}", "it has legs and a matrix", "Keep one of the two.")
    own = {key: value for key, value in overrides.items() if key != "budget"}
    base = {key: value for key, value in document.items() if key not in _Parts.model_fields}
    made = []
    for leg in list(parts.matrix.legs()) if parts.matrix else parts.legs or [{}]:
        written = _over(base, leg)
        if own and _kind(own) not in (None, _kind(written)):
            written.pop("fault", None)  # another kind: what was said of the first one's nodes does not hold
            written["name"] = f"{written.get('layout')}, {_kind(own)}"
        made.append(Leg(**_over(written, own)))
    made = list({(one.name or number): one for number, one in enumerate(made)}.values())  # some may now be the same
    for one in made:
        _refuse_nonsense(one)
    return Scenario(name=name, about=parts.about, legs=tuple(made), budget=Budget(**dict(parts.budget)))


def _kind(document: Mapping[str, Any]) -> Any:
    fault = document.get("fault")
    return fault.get("kind") if isinstance(fault, dict) else None


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both documents as one; tables are merged, the rest is replaced."""
    merged = deepcopy(dict(below))
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else deepcopy(value)
    return merged


def _refuse_nonsense(leg: Leg) -> None:
    leg.presets()
    if len(set(leg.clients)) < len(leg.clients) or not leg.clients:
        raise UsageError("planning a drill", f"clients must be one or several, each once: {', '.join(leg.clients)}")
    if others := set(leg.judge) - set(leg.clients):
        raise UsageError(
            "planning a drill", f"judge names {min(others)!r}, and the clients are {', '.join(leg.clients)}"
        )
    if leg.workload.sets + leg.workload.appends > 1:
        raise UsageError("planning a drill", "sets and appends together are more than 1")
    if leg.fault is not None:
        leg.fault.params(leg.layout)
