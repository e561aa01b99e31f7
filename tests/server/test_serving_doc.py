"""The examples of docs/serving.md run unchanged."""

import os
import re
import subprocess
import sys

import pytest
from program import REPO, TIMEOUT_S

TEXT = (REPO / "docs" / "serving.md").read_text("utf-8")
EXAMPLES = [e for e in re.findall(r"```(sh|python)\n(.*?)```", TEXT, re.DOTALL) if "export MXGPT_URL" not in e[1]]
# Expected output of each example, in page order.
EXPECTED = [
    '"content":"The capital of Norway is Oslo."',
    "The capital of Norway is Oslo.",
    "calls get_weather {'location': 'Denver'}",
    '{"name":"Jonas","age":43,"city":"Seattle"}',
    "calls get_weather {'location': 'Denver'}",
    '"content":[{"type":"text","text":"The capital of Norway is Oslo."}]',
    '"object":"text_completion"',
    '"tokens":[',
    '"status":"ready"',
]


def test_all_are_known():
    assert len(EXAMPLES) == len(EXPECTED)


@pytest.mark.parametrize("number", range(len(EXPECTED)))
def test_example(server, number):
    language, code = EXAMPLES[number]
    command = ["bash", "-ec", code] if language == "sh" else [sys.executable, "-c", code]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, env={**os.environ, "MXGPT_URL": server.url}
    )
    assert result.returncode == 0, result.stderr
    assert EXPECTED[number] in result.stdout, result.stdout
