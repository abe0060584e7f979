"""Understudy: run a Valkey or Redis stack as in production, break it, back it up, prove that it restores."""

__version__ = "0.1.0"
