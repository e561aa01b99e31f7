"""The mxgpt program under test, and the paths that CMake passes to every Python test."""

import os
import subprocess
from pathlib import Path

MXGPT = os.environ["MXGPT"]
BUILD = Path(os.environ["MXGPT_BUILD"])
REPO = Path(os.environ["MXGPT_ROOT"])
FIXTURES = Path(os.environ["MXGPT_FIXTURES"])
NANO = REPO / "models" / "gpt-oss-nano"
EVAL_TEXT = REPO / "tests" / "data" / "eval-text.jsonl"
# Seconds per operation. Generous even for a slow, busy machine, so that only a hang fails.
TIMEOUT_S = 300


def mxgpt(*arguments, status=0, stdin="", timeout=TIMEOUT_S, **options):
    """Runs the program to its end; output is UTF-8 text. Checks the exit status, unless `status` is None."""
    done = subprocess.run(
        [MXGPT, *map(str, arguments)], input=stdin.encode(), capture_output=True, timeout=timeout, **options
    )
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    assert status is None or done.returncode == status, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def output_of(*arguments, status=0, **options):
    """Standard output of a successful run, standard error of a failed one."""
    done = mxgpt(*arguments, status=status, **options)
    return done.stdout if status == 0 else done.stderr
