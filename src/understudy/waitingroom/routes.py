"""All endpoints, and which of them a path means."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.waitingroom import pages, routes_events, routes_queue, routes_seats, routes_service
from understudy.waitingroom.refusals import ProblemError
from understudy.waitingroom.route import Route

ROUTES: tuple[Route, ...] = (
    *routes_queue.ROUTES,
    *routes_seats.ROUTES,
    *routes_events.ROUTES,
    *routes_service.ROUTES,
    *pages.ROUTES,
)
_PART = "{event}"


class Table:
    """Finds the route of a request: by its whole path, or where one part is a name, by what stands around that."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._whole: dict[str, dict[str, Route]] = {}
        self._named: dict[tuple[str, str], dict[str, Route]] = {}
        for one in routes:
            before, named, after = one.path.partition(_PART)
            methods = self._named.setdefault((before, after), {}) if named else self._whole.setdefault(one.path, {})
            methods[one.method] = one
            if one.method == "GET" and "text/event-stream" not in one.answers.values():
                methods.setdefault("HEAD", one)

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """Return a route, and the name in the path.

        Raises:
            ProblemError: `NO_PATH`, with status 405 where other methods have one.
        """
        methods, name = self._whole.get(path), ""
        if methods is None:
            for before, after in self._named:
                name = path[len(before) : len(path) - len(after)]
                if name and "/" not in name and path == before + name + after:
                    methods = self._named[before, after]
                    break
            else:
                raise ProblemError("NO_PATH")
        if method in methods:
            return methods[method], name
        allowed = ", ".join(sorted(methods)).encode()
        raise ProblemError("NO_PATH", status=405, why="this path knows other methods", headers=((b"allow", allowed),))
