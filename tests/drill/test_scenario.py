"""Scenarios: what comes with us can be read, what a user writes is checked before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.drill import scenario
from understudy.errors import NotFoundError, UnderstudyError, UsageError

OWN = """
about = "Mine."
layout = "cluster"
clients = ["mine", "valkey-py/defaults"]
judge = ["mine"]
[client.mine]
base = "recommended"
deadline_s = 3
settings = { socket_timeout = 0.5 }
[fault]
kind = "restart"
set = { for_s = 2 }
[[legs]]
name = "quick"
[[legs]]
name = "slow"
fault = { set = { for_s = 9.5 } }
[budget]
max_downtime_s = 4
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", scenario.names())
def test_every_scenario_of_ours_can_be_read_and_tells_what_it_is(name: str) -> None:
    found = scenario.load(name)
    assert found.about.endswith(".")
    assert found.legs
    for leg in found.legs:
        assert leg.fault
        assert leg.judged <= {preset.name for preset in leg.presets()}


def test_the_matrix_holds_every_fault_in_every_layout_that_has_it() -> None:
    from understudy.drill.faults import FAULTS

    legs = {(leg.layout, leg.fault.kind) for leg in scenario.load("matrix").legs if leg.fault}
    assert legs == {(layout, fault.name) for fault in FAULTS.values() for layout in fault.layouts}


def test_a_users_own_scenario_has_legs_that_change_what_stands_above_them(tmp_path: Path) -> None:
    found = scenario.load(written(tmp_path, OWN))
    assert [leg.name for leg in found.legs] == ["quick", "slow"]
    assert [leg.fault.params(leg.layout)["for_s"] for leg in found.legs if leg.fault] == [2, 9.5]
    mine, other = found.legs[0].presets()
    assert (mine.base, mine.deadline_s, dict(mine.settings)) == ("recommended", 3, {"socket_timeout": 0.5})
    assert (other.library, other.base) == ("valkey-py", "defaults")
    assert found.budget.max_downtime_s == 4
    assert found.legs[0].judged == {"mine"}


def test_what_is_typed_goes_over_what_is_written(tmp_path: Path) -> None:
    asked = {
        "clients": ["one-try"],
        "judge": ["one-try"],
        "workload": {"rate": 7},
        "fault": {"set": {"for_s": 1}},
        "budget": {"max_lost": 3},
    }
    found = scenario.load(written(tmp_path, OWN), asked)
    for leg in found.legs:
        assert leg.clients == ("one-try",)
        assert leg.judged == {"one-try"}, "whoever is judged must take part"
        assert leg.workload.rate == 7
        assert leg.fault
        assert leg.fault.params(leg.layout)["for_s"] == 1
    assert (found.budget.max_downtime_s, found.budget.max_lost) == (4, 3)


def test_another_fault_takes_nothing_over_from_the_one_it_replaces() -> None:
    (leg,) = scenario.load("maintenance", {"fault": {"kind": "kill"}}).legs
    assert leg.fault
    assert (leg.fault.kind, leg.fault.nodes, leg.fault.set) == ("kill", (), {})


@pytest.mark.parametrize(
    ("text", "kind", "word"),
    [
        ("layout = [", UsageError, "mine.toml"),
        ("layout = 'ring'", UsageError, "layout"),
        ("layout = 'cluster'\nspeed = 3", UsageError, "speed"),
        ("layout = 'cluster'\nclients = []", UsageError, "clients"),
        ("layout = 'cluster'\nclients = ['nobody']", NotFoundError, "nobody"),
        ("layout = 'cluster'\n[workload]\nrate = 0", UsageError, "rate"),
        ("layout = 'cluster'\n[workload]\nsets = 0.9\nappends = 0.9", UsageError, "more than 1"),
        ("layout = 'cluster'\nfault = 3", UsageError, "fault"),
        ("layout = 'cluster'\njudge = ['recomended']", UsageError, "recomended"),
        ("layout = 'cluster'\nlab = { foo = 3 }", UsageError, "foo"),
        ("layout = 'cluster'\n[budget]\nmax_downtime_s = true", UsageError, "max_downtime_s"),
        ("[matrix]\nlayouts = ['standlone']\nfaults = ['kill']", UsageError, "layouts"),
        ("[matrix]\nlayouts = ['cluster']\nfaults = ['kill']\nhold_s = { kil = 3 }", UsageError, "kil"),
        ("[matrix]\nlayouts = ['cluster']\nfaults = ['kill']\n[[legs]]\nname = 'x'", UsageError, "matrix"),
        ("layout = 'cluster'\n[fault]\nkind = 'flood'", UsageError, "flood"),
        ("layout = 'standalone'\n[fault]\nkind = 'sentinel-failover'", UsageError, "standalone"),
        ("layout = 'cluster'\n[fault]\nkind = 'kill'\nset = { speed = 1 }", UsageError, "speed"),
        ("layout = 'cluster'\n[budget]\nmax_downtime = 1", UsageError, "max_downtime"),
        ("layout = 'cluster'\n[budget]\nmax_lost = 'many'", UsageError, "max_lost"),
        ("layout = 'cluster'\nlegs = 3", UsageError, "legs"),
        ("[matrix]\nlayouts = ['cluster']", UsageError, "faults"),
    ],
)
def test_nonsense_is_refused_with_what_is_wrong_in_it(
    tmp_path: Path, text: str, kind: type[UnderstudyError], word: str
) -> None:
    with pytest.raises(kind) as caught:
        scenario.load(written(tmp_path, text))
    assert word in f"{caught.value} {caught.value.hint}"


def test_a_scenario_that_is_not_there_is_not_found_and_the_others_are_named() -> None:
    with pytest.raises(NotFoundError) as caught:
        scenario.load("cluser")
    assert "cluster" in caught.value.hint
