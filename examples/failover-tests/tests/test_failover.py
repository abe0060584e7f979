"""Does the shop go on selling when a server dies?

`valkey_cluster` is Understudy's fixture: three primaries and three replicas, real servers on this machine, empty and
whole at the start of every test. What a test breaks is mended before the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shop.orders import Orders

if TYPE_CHECKING:
    from understudy.lab import Lab


@pytest.fixture
def orders(valkey_cluster: Lab) -> Orders:
    seed = valkey_cluster.target().seeds[0]
    return Orders(seed.host, seed.port)


def test_an_order_is_kept(orders: Orders) -> None:
    orders.place(1, "two tickets")
    assert orders.what(1) == "two tickets"


def test_the_shop_goes_on_when_a_primary_dies(orders: Orders, valkey_cluster: Lab) -> None:
    orders.place(7, "two tickets")
    valkey_cluster.kill(str(orders.primary_of(7)))
    orders.place(7, "three tickets")
    assert orders.what(7) == "three tickets"
