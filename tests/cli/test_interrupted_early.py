"""Ctrl-C while modules are still imported: said in a word, with the exit code of an interruption and no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

INTERRUPTED_AT = """
import os, runpy, signal, sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == sys.argv[-1]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
at = sys.argv[1]
sys.argv = ["understudy", "archive", "--for", at]
runpy.run_module("understudy", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["typer", "understudy.cli.waitingroom", "understudy.backup.pitr.service"])
def test_ctrl_c_before_it_began_is_no_traceback(module: str) -> None:
    words = [sys.executable, "-P", "-c", INTERRUPTED_AT, module]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert done.stderr == "\nInterrupted.\n"
