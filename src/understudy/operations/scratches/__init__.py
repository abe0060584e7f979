"""The servers that a rehearsal restores into, one file a component; `scratch.py` says what one is."""
