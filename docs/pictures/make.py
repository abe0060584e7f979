"""Make the pictures again, each from a real run: `make pictures`, or some: `make pictures ONLY='up probe'`.

Needs Chromium. Takes about five minutes. The lab is on 7001 where that is free.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
from terminal import picture, typed

HERE = Path(__file__).parent
UNDERSTUDY = str(Path(sys.executable).with_name("understudy"))
with socket.socket() as tried:
    PORT = 9701 if tried.connect_ex(("127.0.0.1", 7001)) == 0 else 7001
UP = "understudy up cluster" + (f" --port {PORT}" if PORT != 7001 else "")
SECRET = secrets.token_hex(16)
DESKTOP, PHONE = {"width": 1100, "height": 820}, {"width": 390, "height": 780}
SHOP = """
import random, redis
cluster, chance = redis.RedisCluster('127.0.0.1', {port}), random.Random(7)
cluster.flushall(target_nodes='primaries')
for n in range(2500):
    cluster.hset(f'user:{{n}}', mapping={{'name': f'Ann {{n}}', 'mail': f'ann{{n}}@example.com', 'plan': 'free'}})
    cluster.set(f'session:{{n}}', chance.randbytes(90), ex=chance.randrange(60, 200_000))
for n in range(400):
    cluster.set(f'page:{{n}}', chance.randbytes(chance.randrange(200, 2500)), ex=chance.randrange(3600, 900_000))
for n in range(300):
    cluster.rpush(f'cart:{{n}}', *(f'seat-{{n}}' for n in range(chance.randrange(1, 40))))
for n in range(6):
    cluster.zadd(f'seats:{{n}}', {{f'A-{{n}}': n for n in range(900)}})
    cluster.sadd(f'online/{{n}}', *(f'user-{{chance.randrange(1 << 40)}}' for _ in range(700)))
for n in range(1500):
    cluster.xadd('orders', {{'seat': f'A-{{n}}'}})
cluster.function_load("#!lua name=shop\\nserver.register_function('sold', function() return 1 end)")
"""
LARGEST, LARGEST_OF_ALL = 250_000, 1_500_000


class Place:
    """A directory and a state directory of their own, in which commands are typed."""

    def __init__(self, folder: Path, browser: Browser) -> None:
        self.folder = folder
        self.browser = browser
        path = (
            f"{Path(UNDERSTUDY).parent}{os.pathsep}{os.environ['PATH']}"  # else it tells its own path as what to type
        )
        self.env = {"UNDERSTUDY_HOME": str(folder / "home"), "WAITINGROOM_SECRET": SECRET, "PATH": path}

    def run(self, *words: str) -> str:
        """Type a command of ours; return what it printed."""
        env = {**os.environ, **self.env}
        done = subprocess.run(
            [UNDERSTUDY, *words], cwd=self.folder, env=env, text=True, capture_output=True, check=False
        )
        if done.returncode not in {0, 15}:
            raise SystemExit(f"understudy {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def shown(self, command: str, width: int) -> tuple[str, list[str]]:
        """Type a command in a terminal; return it with the lines that it wrote."""
        words = command.split()
        return command, typed([UNDERSTUDY, *words[1:]], self.env, self.folder, width)

    @contextmanager
    def served(self, *words: str) -> Iterator[str]:
        """Run a command that serves, on a free port; give its address."""
        process = subprocess.Popen(
            [UNDERSTUDY, *words, "--port", "0"], cwd=self.folder, env={**os.environ, **self.env},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            for line in process.stdout or ():
                if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                    yield found[0]
                    return
            raise SystemExit(f"understudy {' '.join(words)} did not come up")
        finally:
            process.terminate()
            process.wait()

    @contextmanager
    def page(self, address: str, viewport: Any = DESKTOP, **more: Any) -> Iterator[Page]:
        """Open a page in a browser of its own."""
        context = self.browser.new_context(viewport=viewport, color_scheme="light", locale="en-US", **more)
        page = context.new_page()
        page.goto(address)
        yield page
        context.close()


def up(place: Place) -> None:
    """A lab comes up, and is looked at."""
    lines = [place.shown(UP, 96), place.shown("understudy status", 96)]
    picture(HERE / "up.svg", lines, 96)


def probe(place: Place) -> None:
    """The probe's dashboard while a primary is killed."""
    with place.served("probe") as address, place.page(address, {"width": 1100, "height": 1260}) as page:
        page.fill("#duration", "14")
        page.fill("#interval", "0.5")
        time.sleep(6)
        page.click("#recovery-start")
        time.sleep(3)
        place.run("fault", "kill", "--for", "8s")
        page.wait_for_selector("#verdict:not([hidden])", timeout=60_000)
        page.screenshot(path=HERE / "probe.png")


def waitingroom(place: Place) -> None:
    """A person's phone and the operator's desk, with people in the line."""
    with place.served("waitingroom", "--rate-per-address", "0") as address:
        patient = {"abandon_after_s": 3600, "entry_ttl_s": 600}
        ask(f"{address}api/v1/events", {"event_id": "spring-concert", "seats": 200, "rate_per_s": 0, **patient})
        ask(f"{address}api/v1/events/spring-concert/open", {})
        tickets = [join(address, number)["ticket"] for number in range(140)]
        with place.page(f"{address}wait/spring-concert", PHONE, device_scale_factor=2, is_mobile=True) as phone:
            phone.wait_for_selector("#line:not([hidden])")
            for number in range(140, 190):
                join(address, number)
            ask(f"{address}api/v1/events/spring-concert", {"rate_per_s": 4}, "PATCH")
            time.sleep(8)
            phone.screenshot(path=HERE / "waiting-phone.png")
            with place.page(address, {"width": 1100, "height": 900}) as desk:
                desk.fill("#secret", SECRET)
                desk.keyboard.press("Enter")
                desk.wait_for_selector("#desk:not([hidden])")
                for number, ticket in enumerate(tickets[:24]):
                    buy(address, ticket, 2 * number, sold=number % 3 > 0)
                time.sleep(10)
                desk.screenshot(path=HERE / "operator.png")


def join(address: str, number: int) -> Any:
    """Have somebody join the line."""
    return ask(f"{address}api/v1/queue/join", {"event_id": "spring-concert", "user_id": f"user-{number}"})


def buy(address: str, ticket: str, first: int, *, sold: bool) -> None:
    """Enter, hold two seats, and perhaps buy them."""
    token = ask(f"{address}api/v1/queue/enter", {}, bearer=ticket)["token"]
    seats = {"seats": [str(first + 1), str(first + 2)]}
    ask(f"{address}api/v1/seats/hold", seats, bearer=token)
    if sold:
        ask(f"{address}api/v1/seats/confirm", seats, bearer=token)


def ask(address: str, body: dict[str, Any], method: str = "POST", bearer: str = SECRET) -> Any:
    """Ask the gateway, and return what it answers."""
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers, method=method)  # noqa: S310
    return json.loads(urllib.request.urlopen(request, timeout=30).read())  # noqa: S310


def drill(place: Place) -> None:
    """A drill in a terminal, and its page."""
    width = 136
    command, lines = place.shown("understudy drill cluster --html report.html", width)
    notes = next(n for n, line in enumerate(lines) if line.startswith("  before the fault"))
    last = [line for line in lines if line.startswith("Page:")]
    picture(HERE / "drill.svg", [(command, [*lines[:notes], "  …", *last])], width)
    with place.page((place.folder / "report.html").as_uri(), {"width": 1100, "height": 1060}) as page:
        page.screenshot(path=HERE / "drill.png")


def rehearsal(place: Place) -> None:
    """A rehearsal's page: PostgreSQL and Valkey."""
    import psycopg  # noqa: PLC0415

    from understudy.lab.servers.postgres import scratch_postgres  # noqa: PLC0415

    with scratch_postgres() as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
        with psycopg.connect(server.url("shop"), autocommit=True) as connection:
            connection.execute("CREATE TABLE orders (id bigserial PRIMARY KEY, seat text NOT NULL)")
            connection.execute("INSERT INTO orders (seat) SELECT 'A-' || n FROM generate_series(1, 4200) n")
        place.env |= {"POSTGRES_URL": f"postgresql://postgres@127.0.0.1:{server.port}/shop", "BACKUP_NAME": "shop"}
        place.env |= {"POSTGRES_PASSWORD": server.password}
        place.env |= {
            "REHEARSE_CHECKS": json.dumps([{"name": "orders", "sql": "SELECT count(*) FROM orders", "at_least": 4000}])
        }
        code = f"import redis; c = redis.RedisCluster('127.0.0.1', {PORT})\n"
        code += "for n in range(3000): c.set(f'session:{n}', 'x' * 60, ex=86400)"
        subprocess.run([sys.executable, "-c", code], check=True)
        place.env |= {"REDIS_NODES": f"127.0.0.1:{PORT},127.0.0.1:{PORT + 1}"}
        place.run("backup")
        place.run("rehearse", "latest", "--max-rto", "30m", "--max-age", "26h", "--html", "rehearsal.html")
    for name in ("POSTGRES_URL", "POSTGRES_PASSWORD", "BACKUP_NAME", "REHEARSE_CHECKS", "REDIS_NODES"):
        place.env.pop(name)
    with place.page((place.folder / "rehearsal.html").as_uri(), {"width": 1100, "height": 900}) as page:
        page.screenshot(path=HERE / "rehearsal.png")


def inspect(place: Place) -> None:
    """The page of what is in a set."""
    place.env |= {
        "REDIS_NODES": f"127.0.0.1:{PORT},127.0.0.1:{PORT + 1}",
        "BACKUP_DIR": str(place.folder / "inspected"),
    }
    subprocess.run([sys.executable, "-c", SHOP.format(port=PORT)], check=True)
    place.run("backup")
    place.run("inspect", "--html", "contents.html", "latest")
    for name in ("REDIS_NODES", "BACKUP_DIR"):
        place.env.pop(name)
    with place.page((place.folder / "contents.html").as_uri(), {"width": 1100, "height": 1000}) as page:
        page.screenshot(path=HERE / "inspect.png")


def demo(place: Place) -> None:
    """The demo in a terminal, and its page."""
    width = 124
    command, lines = place.shown("understudy demo", width)
    here = str(place.folder)
    picture(HERE / "demo.svg", [(command, [line.replace(here, "…") for line in lines])], width)
    with place.page(
        (place.folder / "understudy-demo" / "report.html").as_uri(), {"width": 1100, "height": 1000}
    ) as page:
        page.screenshot(path=HERE / "demo.png")


ALL = (up, probe, waitingroom, rehearsal, inspect, drill, demo)  # the first five in the lab that the first one starts


def main(only: list[str]) -> None:
    """Make all pictures, or those of these functions."""
    chosen = [one for one in ALL if not only or one.__name__ in only]
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        place = Place(Path(folder), playwright.chromium.launch(executable_path=found, args=flags))
        try:
            if up not in chosen and set(chosen) - {drill, demo}:
                place.run(*UP.split()[1:])
            for one in chosen:
                sys.stdout.write(f"{one.__name__}: {one.__doc__}\n")
                sys.stdout.flush()
                one(place)
        finally:
            place.run("down", "--all")
    sizes = {file.name: file.stat().st_size for file in HERE.iterdir() if file.suffix in {".png", ".svg"}}
    for name, size in sorted(sizes.items()):
        sys.stdout.write(f"{size:>9,} {name}\n")
    if max(sizes.values()) > LARGEST or sum(sizes.values()) > LARGEST_OF_ALL:
        raise SystemExit("Too large: make the viewport smaller.")


if __name__ == "__main__":
    main(sys.argv[1:])
