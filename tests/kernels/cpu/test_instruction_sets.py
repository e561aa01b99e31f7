"""Code made for an instruction set stays in the files that are entered after the run-time check."""

import os
import subprocess

import pytest
from program import BUILD

OBJECTS = sorted((BUILD / "src").rglob("*_avx*.cpp.o"))


def test_there_are_some():
    if os.uname().machine == "x86_64":
        assert OBJECTS


@pytest.mark.parametrize("path", OBJECTS, ids=lambda p: p.name)
def test_shares_no_inline_functions(path):
    """Of a weak function's copies the linker keeps any one; if that was made with AVX2, every processor runs it.

    So a weak name must be that of one instruction set."""
    isa = path.name.removesuffix(".cpp.o").rsplit("_", 1)[1]
    symbols = subprocess.run(["nm", "-C", "--defined-only", path], capture_output=True, text=True, check=True)
    shared = [line for line in symbols.stdout.splitlines()
              if line[17:18] == "W" and isa not in line.lower()]
    assert not shared
