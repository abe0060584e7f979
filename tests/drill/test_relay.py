"""The relay: passing on, slowing, cutting servers off, and ending with its owner."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
import redis

from support import eventually
from understudy.drill.relay import Relay
from understudy.errors import RefusedError, UnreachableError
from understudy.lab import Lab
from understudy.lab.guardian import identify, state
from understudy.lab.talk import ask
from understudy.valkey.target import Address, Target
from understudy.valkey.wire import Wire

NOBODY = Address("127.0.0.1", 1)
OWNER = """
import sys, time
from understudy.drill.relay import Relay
from understudy.valkey.target import Address
relay = Relay([Address("127.0.0.1", int(sys.argv[1]))])
relay.last_words(Address("127.0.0.1", int(sys.argv[1])), None, [("SET", "last", "words"), ("INCR", "said")])
print(relay.pid, relay.address.port, flush=True)
time.sleep(600)
"""


@pytest.fixture
def relay(valkey_standalone: Lab) -> Iterator[Relay]:
    """A relay in front of a server."""
    with Relay([valkey_standalone.node("node-1").address]) as one:
        yield one


@contextmanager
def client(relay: Relay) -> Iterator[redis.Redis]:
    with closing(redis.Redis(port=relay.address.port, protocol=2, socket_timeout=5)) as one:
        yield one


def test_bytes_of_any_size_pass_unchanged(relay: Relay) -> None:
    value = os.urandom(20 << 20)
    with client(relay) as one:
        one.set("big", value)
        assert one.get("big") == value


def test_a_new_connection_goes_to_the_next_upstream_that_takes_it(valkey_standalone: Lab) -> None:
    living = valkey_standalone.node("node-1").address
    with Relay([NOBODY, living]) as relay:
        for _ in range(4):
            assert ask(relay.address, None, "PING") == "PONG"
        relay.set_upstreams([NOBODY])
        with pytest.raises(UnreachableError):
            ask(relay.address, None, "PING")
        relay.set_upstreams([living])
        assert ask(relay.address, None, "PING") == "PONG"


def test_a_delay_is_added_once_to_a_round_trip_and_does_not_divide_the_throughput(relay: Relay) -> None:
    count = 20_000
    with Wire(relay.address, Target((relay.address,))) as wire:
        relay.delay(100)
        began = time.monotonic()
        assert wire.call("PING") == b"PONG"
        assert 0.1 <= time.monotonic() - began < 0.5
        began = time.monotonic()
        replies = wire.pipeline([("SET", f"key:{i}", "x" * 100) for i in range(count)])
        took_s = time.monotonic() - began
        assert replies == [b"OK"] * count
        assert 0.1 <= took_s < 5  # one by one they would take half an hour
        relay.delay(0)
        began = time.monotonic()
        wire.call("PING")
        assert time.monotonic() - began < 0.1


def test_what_was_late_still_arrives_when_the_server_hangs_up(relay: Relay) -> None:
    relay.delay(200)
    with Wire(relay.address, Target((relay.address,))) as wire:
        assert wire.call("QUIT") == b"OK"


@pytest.mark.parametrize(
    "words",
    [
        "*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n",
        "*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n",
        "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$21\r\nsentinel-12345678-cmd\r\n",
        "*2\r\n$9\r\nSUBSCRIBE\r\n$18\r\n__sentinel__:hello\r\n",
    ],
)
def test_a_server_is_known_by_its_words_even_cut_in_two_and_is_cut_off_while_clients_pass(
    relay: Relay, words: str
) -> None:
    relay.cut_servers(True)
    with socket.create_connection(relay.address, 5) as server, client(relay) as one:
        server.settimeout(0.3)
        server.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert server.recv(100) == b"+PONG\r\n"
        server.sendall(words[:20].encode())
        assert one.ping()
        server.sendall(words[20:].encode())
        with pytest.raises(TimeoutError):
            server.recv(100)
        assert one.set("key", "*3\r\n$5\r\nnot a command: PSYNC\r\n")
        assert one.ping()
        relay.cut_servers(False)
        server.settimeout(5)
        with suppress(ConnectionResetError):
            assert server.recv(100) == b""


def test_a_taken_port_is_refused_and_nothing_is_left(valkey_standalone: Lab) -> None:
    taken = valkey_standalone.node("node-1").address
    with pytest.raises(RefusedError):
        Relay([taken], taken.port)


def test_it_ends_with_its_owner_however_that_ends_and_says_its_last_words(valkey_standalone: Lab) -> None:
    port = valkey_standalone.node("node-1").address.port
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(port)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner, owner.stdout as said:
        pid, relayed = map(int, said.readline().split())
        process = identify(pid)
        assert process is not None
        owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: state(process) == "dead")
    assert valkey_standalone.call("node-1", "GET", "last") == "words"
    assert valkey_standalone.call("node-1", "GET", "said") == "1"
    with pytest.raises(UnreachableError):
        ask(Address("127.0.0.1", relayed), None, "PING")


def test_a_closed_one_is_gone_and_says_nothing(valkey_standalone: Lab) -> None:
    address = valkey_standalone.node("node-1").address
    with Relay([address]) as relay:
        relay.last_words(address, None, [("SET", "last", "words")])
        process = identify(relay.pid)
    relay.close()
    assert process is not None
    assert state(process) == "dead"
    assert valkey_standalone.call("node-1", "GET", "last") is None
