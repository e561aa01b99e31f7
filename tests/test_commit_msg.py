"""scripts/hooks/commit-msg accepts the form that CONTRIBUTING.md describes, and refuses others with the reason."""

import subprocess

import pytest
from program import REPO


def check(folder, message):
    file = folder / "message"
    file.write_text(message)
    return subprocess.run([REPO / "scripts/hooks/commit-msg", file], capture_output=True, text=True)


@pytest.mark.parametrize(
    "message",
    [
        "cpu: fuse activation quantization into RMSNorm and SwiGLU\n\nWhy.\n",
        "docs: add decision records\n\nBody.\n# a comment that git drops\n",
        "server/http: bound chunk extensions\n\nWhy.\n",
        "engine: pass the salt of a key to the cache\n\nWhy.\n",
        "cli: " + "a" * 67 + "\n\nWhy.\n",
        "Merge branch 'docs'\n",
        'Revert "cpu: fuse norms"\n',
        "fixup! cpu: fuse norms\n",
        "io: read shards in parallel\n\nWhy.\n# ------------------------ >8 ------------------------\ndiff\n",
    ],
)
def test_good_messages_pass(tmp_path, message):
    result = check(tmp_path, message)
    assert result.returncode == 0 and result.stderr == ""


@pytest.mark.parametrize(
    "message, reason",
    [
        ("\n\nBody.\n", "the first line is empty"),
        ("cli: " + "a" * 68 + "\n", "the subject has 73 characters; the limit is 72"),
        ("Fuse norms\n", 'does not start with "component: "'),
        ("CPU: fuse norms\n", 'does not start with "component: "'),
        ("cpu:fuse norms\n", 'does not start with "component: "'),
        ("cpu: fuse norms.\n", "ends with a period"),
        ("cpu: Fuse norms\n", 'starts with a lower-case verb, not "Fuse"'),
        ("cpu: fused norms\n", '"fused" is not an imperative'),
        ("cpu: fusing norms\n", '"fusing" is not an imperative'),
        ("cpu: fuses norms\n", '"fuses" is not an imperative'),
        ("cpu: fuse norms\nwithout a blank line\n", "the second line is not empty"),
    ],
)
def test_bad_messages_are_refused_with_the_reason(tmp_path, message, reason):
    result = check(tmp_path, message)
    assert result.returncode == 1
    assert reason in result.stderr


def test_a_missing_body_is_a_warning(tmp_path):
    result = check(tmp_path, "cpu: fuse norms\n")
    assert result.returncode == 0
    assert "no body" in result.stderr
