"""The places where sets are kept, one file each; `repository.py` says what one is."""
