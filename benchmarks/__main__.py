"""Every benchmark, one after the other; each also runs alone, as `python -m benchmarks.drill`."""

from __future__ import annotations

from benchmarks import backup, cut, drill, stack, waitingroom


def main() -> None:
    backup.main([])
    print()
    cut.main([])
    print()
    stack.main([])
    print()
    drill.main([])
    print()
    waitingroom.main([])


if __name__ == "__main__":
    main()
