"""Command-line options of all commands: suggestions for mistakes, hidden aliases, and help."""

import pytest
from program import mxgpt


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["rnu"], "unknown command 'rnu' (did you mean 'run'?); see `mxgpt --help`"),
        (
            ["run", "--temprature", "0", "hi"],
            "unknown option '--temprature' (did you mean '--temperature'?); see `mxgpt run --help`",
        ),
        (["run", "--qqqqqqqq", "hi"], "unknown option '--qqqqqqqq'; see `mxgpt run --help`"),
        (["convert", "--froce"], "unknown option '--froce' (did you mean '--force'?); see `mxgpt convert --help`"),
        (["run", "one", "two"], "'two' is one argument too many; see `mxgpt run --help`"),
        (
            ["run", "--kv", "q8-0", "hi"],
            "--kv: 'q8-0' is not one of f16, bf16, q8_0, f32 (did you mean 'q8_0'?); see `mxgpt run --help`",
        ),
        (
            ["bench", "--kv", "f16,f17"],
            "--kv: 'f17' is not one of f16, bf16, q8_0, f32 (did you mean 'f16'?); see `mxgpt bench --help`",
        ),
        (["bench", "--batch", "1,0"], "--batch: '0' is not an integer from 1 to 4096; see `mxgpt bench --help`"),
        (["run", "--ctx"], "--ctx needs a value; see `mxgpt run --help`"),
        (["run", "--ctx", "8", "--ctx", "9"], "--ctx is given more than once; see `mxgpt run --help`"),
        (
            ["run", "--vram-budget", "24GX"],
            "--vram-budget: '24GX' is not a valid memory size; write for example 24GiB or 12.5GB; see `mxgpt run --help`",
        ),
        (
            ["verify", "m", "--manifest", "x", "--expect-sha256", "y"],
            "--manifest cannot be combined with --expect-sha256; see `mxgpt verify --help`",
        ),
        (["validate", "--seeds", "4"], "--seeds needs --prompts; see `mxgpt validate --help`"),
        (["harmony", "rendr"], "unknown command 'rendr' (did you mean 'render'?); see `mxgpt harmony --help`"),
        (["run", "--kv", "\x1b[2J", "hi"], "is not one of"),
    ],
)
def test_a_mistake_gives_one_sentence(arguments, message):
    result = mxgpt(*arguments, status=2)
    assert result.stdout == ""
    assert message in result.stderr and result.stderr.startswith("mxgpt: ")
    assert result.stderr.count("\n") == 1 and result.stderr[:-1].isprintable()


@pytest.mark.parametrize(
    "command, name, alias",
    [
        ("run", "--reasoning-effort", "--effort"),
        ("run", "--mlock", "--lock"),
        ("run", "--no-offload", "--resident"),
        ("serve", "--max-num-seqs", "--sequences"),
        ("serve", "--max-queued-requests", "--queue"),
        ("serve", "--shutdown-timeout", "--drain"),
        ("serve", "--max-stored-responses", "--stored"),
        ("serve", "--api-key-file", "--api-keys"),
        ("plan", "--memory-budget", "--budget"),
        ("bench", "--max-num-batched-tokens", "--rows"),
        ("convert", "--dense-type", "--dense"),
        ("quantize", "--recipe", "--to"),
        ("quantize", "--tensor-type", "--tensor"),
        ("validate", "--prompts", "--behaviour"),
        ("validate", "--self-check", "--model"),
    ],
)
def test_old_names_work_but_are_not_shown(command, name, alias):
    text = mxgpt(command, "--help").stdout.split()
    assert name in text and not any(word.split(",")[-1] == alias for word in text)
    # The alias is known: the only mistake left is the other option.
    stderr = mxgpt(command, f"{alias}=1", "--nothing-like-it", status=2).stderr
    assert f"'{alias}'" not in stderr


def test_help_lists_every_command():
    text = mxgpt("--help").stdout
    for command in (
        "run",
        "serve",
        "plan",
        "bench",
        "convert",
        "quantize",
        "perplexity",
        "validate",
        "imatrix",
        "synth",
        "logits",
        "inspect",
        "verify",
        "tokenize",
        "detokenize",
        "harmony",
    ):
        assert f"\n  {command} " in text
        assert "\x1b" not in mxgpt(command, "--help").stdout
