"""Default precision stays close to exact precision on text outside the training data. Checks point estimates over 4,096
tokens; the reports in docs/numerics/ check confidence intervals over the whole text."""

import json

import pytest
from program import EVAL_TEXT, NANO, mxgpt


@pytest.fixture(scope="module")
def q8_0(tmp_path_factory):
    path = tmp_path_factory.mktemp("fidelity") / "nano-q8_0.gguf"
    mxgpt("convert", NANO, path, "--dense", "q8_0")
    return str(path)


def measure(tmp_path, reference, candidate, *arguments):
    mxgpt(
        "validate",
        "--reference",
        reference,
        "--candidate",
        candidate,
        "--text",
        EVAL_TEXT,
        "--max-tokens",
        4096,
        "--json",
        tmp_path / "out",
        *arguments,
    )
    summary = json.loads((tmp_path / "out").read_text())["summary"]
    assert summary["positions"] >= 4000
    return summary


def holds(summary):
    assert summary["kld"]["mean"]["value"] <= 2e-3
    assert summary["top1"]["value"] >= 0.985
    assert abs(summary["ln_ppl_ratio"]["value"]) <= 0.005


def test_the_checkpoint_stays_within_bounds(tmp_path):
    holds(measure(tmp_path, NANO, NANO))


def test_a_q8_0_file_stays_within_bounds_of_its_own_weights(tmp_path, q8_0):
    holds(measure(tmp_path, q8_0, q8_0))


def test_sums_in_f16_stay_within_the_same_bounds(tmp_path, q8_0):
    holds(measure(tmp_path, q8_0, q8_0, "--accumulate", "f16"))


def test_a_q8_0_file_is_nearer_to_the_source_than_llama_cpp(tmp_path, q8_0):
    summary = measure(tmp_path, NANO, q8_0)
    assert summary["kld"]["mean"]["value"] < 3.0e-3
    assert summary["kld"]["p99"] < 3.9e-2
    assert summary["top1"]["value"] > 0.979
