"""Keys as commands, in slices: read a value of any size piece by piece, and build one the same way.

`read` gives bounded batches of commands that build the value under an empty name, `write` runs such batches at the
key's owner under a temporary name, and renames it at the end. `LOST` says what commands cannot bring back.
"""

from __future__ import annotations

from understudy.valkey.slices.commands import LOST, Newest, key_place, named, size_of, takes
from understudy.valkey.slices.read import KINDS, read
from understudy.valkey.slices.write import PREFIX, Written, write

__all__ = ["KINDS", "LOST", "PREFIX", "Newest", "Written", "key_place", "named", "read", "size_of", "takes", "write"]
