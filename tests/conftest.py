"""Fixtures of the Python tests. Paths and the program itself are in tests/support/program.py."""

import pytest
from serving import serve


@pytest.fixture(scope="module")
def server():
    """`mxgpt serve` with default options, shared by the tests of a file."""
    with serve() as running:
        yield running
