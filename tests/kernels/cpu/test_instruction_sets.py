"""Files compiled for an instruction set share no inline functions with the rest of the program."""

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
    """The linker keeps any one copy of a weak function; one compiled for AVX2 would run on every processor.

    A weak symbol must therefore name its instruction set."""
    isa = path.name.removesuffix(".cpp.o").rsplit("_", 1)[1]
    symbols = subprocess.run(["nm", "-C", "--defined-only", path], capture_output=True, text=True, check=True)
    shared = [line for line in symbols.stdout.splitlines() if line[17:18] == "W" and isa not in line.lower()]
    assert not shared
