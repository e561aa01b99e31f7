"""`mxgpt bench`: output formats, derived figures, and interruption. Speed itself is not checked."""

import csv
import io
import json
import re
import signal
import subprocess
import time

import pytest
from program import MXGPT, mxgpt, output_of

QUICK = ["--prefill", "16", "--decode", "4", "--repetitions", "2", "--no-bandwidth"]


def bench(*args, status=0):
    return output_of("bench", *args, status=status)


def test_json_has_every_combination():
    report = json.loads(
        bench(
            *QUICK[2:],
            "--format",
            "json",
            "--prefill",
            "16,300",
            "--depth",
            "200,0",
            "--batch",
            "1,3",
            "--threads",
            "1,2",
            "--kv",
            "f16,q8_0",
        )
    )
    expected = {
        (work, tokens, depth, batch, threads, kv)
        for depth in (0, 200)
        for threads in (1, 2)
        for kv in ("F16", "Q8_0")
        for work, tokens, batch in (("prefill", 16, 1), ("prefill", 300, 1), ("decode", 4, 1), ("decode", 4, 3))
    }
    found = [(r["work"], r["tokens"], r["depth"], r["batch"], r["threads"], r["kv"]) for r in report["results"]]
    assert len(found) == len(expected) and set(found) == expected
    for r in report["results"]:
        assert len(r["rates"]) == 2 and min(r["rates"]) > 0
        assert r["median"] == pytest.approx(sum(r["rates"]) / 2)
        assert (r["bytes_per_token"] is None) == (r["work"] == "prefill" or r["batch"] > 1)
        assert r["bandwidth_share"] is None
    assert report["cpu"] and report["isa"] and report["model"] == "gpt-oss-nano"
    assert report["bandwidth"] == []


def test_bytes_of_a_token():
    """gpt-oss-nano reads 4 of 12 experts, all other weights but the embedding, and the context's keys and values."""
    plan = json.loads(mxgpt("plan", "--json").stdout)
    weights = sum(
        (w["mapped"] + w["own"]) // (3 if w["part"] == "experts" else 1)
        for w in plan["weights"]
        if w["part"] != "embedding"
    )
    report = json.loads(
        bench(
            "--prefill",
            "8",
            "--decode",
            "4",
            "--depth",
            "0,1000",
            "--repetitions",
            "1",
            "--format",
            "json",
            "--no-bandwidth",
        )
    )
    found = {r["depth"]: r["bytes_per_token"] for r in report["results"] if r["work"] == "decode"}
    per_layer = 2 * 2 * 64 * 2  # keys and values, heads, numbers, bytes
    assert found[0] == weights + 6 * 2 * per_layer
    assert found[1000] == weights + 3 * per_layer * (1002 + 128)


def test_share_of_the_memory():
    report = json.loads(
        bench("--prefill", "8", "--decode", "4", "--repetitions", "1", "--format", "json", "--threads", "1")
    )
    (bandwidth,) = report["bandwidth"]
    assert bandwidth["threads"] == 1 and 1e8 < bandwidth["bytes_per_second"] < 1e12
    decode = report["results"][-1]
    assert decode["bandwidth_share"] == pytest.approx(
        decode["median"] * decode["bytes_per_token"] / bandwidth["bytes_per_second"]
    )


def test_csv():
    rows = list(csv.DictReader(io.StringIO(bench(*QUICK, "--format", "csv"))))
    assert [(r["work"], r["tokens"]) for r in rows] == [("prefill", "16"), ("decode", "4")]
    assert float(rows[0]["min"]) <= float(rows[0]["median"]) <= float(rows[0]["max"])


def test_markdown():
    lines = bench(*QUICK, "--format", "markdown").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4 and {line.count("|") for line in table} == {10}
    assert table[2].startswith("| prefill 16 | 0 | 1 |")
    assert any(line.startswith("- processor: ") for line in lines)


def test_table():
    lines = bench(*QUICK).splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("work"))
    assert {len(line) for line in lines[heading:]} == {len(lines[heading])}
    assert re.match(r"decode 4 +0 +1 +\d+ +F16 +[\d.]+ +[\d.]+–[\d.]+", lines[-1])


def test_an_interrupt_shows_what_was_measured():
    with subprocess.Popen(
        [MXGPT, "bench", "--prefill", "16", "--decode", "100000", "--no-bandwidth", "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        time.sleep(3)
        run.send_signal(signal.SIGINT)
        out, errors = run.communicate(timeout=30)
    assert run.returncode == 1 and "interrupted" in errors
    assert all(r["work"] == "prefill" for r in json.loads(out)["results"])


def test_errors():
    assert "more than the model's context" in bench("--depth", "131072", status=1)
    assert "--batch" in bench("--batch", "0", status=2)
    assert "--kv" in bench("--kv", "q4_k", status=2)
