"""The stores that a set can hold, one file each; `component.py` says what one is."""
