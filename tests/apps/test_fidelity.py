"""Claim A of the default precision, on text the model was not trained on (docs/numerics.md has the figures)."""

import os
import subprocess
import sys

import pytest

ROOT = os.environ["MXGPT_ROOT"]
NANO = os.path.join(ROOT, "models", "gpt-oss-nano")
sys.path.insert(0, os.path.join(ROOT, "bench"))

import fidelity  # noqa: E402


@pytest.fixture(scope="module")
def q8_0(tmp_path_factory):
    path = tmp_path_factory.mktemp("fidelity") / "nano-q8_0.gguf"
    subprocess.run([os.environ["MXGPT"], "convert", NANO, path, "--dense", "q8_0"], check=True, capture_output=True)
    return str(path)


def holds(measured):
    assert measured["positions"] >= 4000
    assert measured["mean_kld"] <= 2e-3
    assert measured["top1"] >= 0.985
    assert abs(measured["ln_ppl_ratio"]) <= 0.005


def test_the_checkpoint_stays_within_bounds():
    holds(fidelity.measure(NANO, NANO, 4096))


def test_a_q8_0_file_stays_within_bounds_of_its_own_weights(q8_0):
    holds(fidelity.measure(q8_0, q8_0, 4096))


def test_sums_in_f16_stay_within_the_same_bounds(q8_0):
    holds(fidelity.measure(q8_0, q8_0, 4096, accumulate="f16"))


def test_a_q8_0_file_is_nearer_to_the_source_than_llama_cpp(q8_0):
    measured = fidelity.measure(q8_0, NANO, 4096)
    assert measured["mean_kld"] < 3.0e-3
    assert measured["p99_kld"] < 3.9e-2
    assert measured["top1"] > 0.979
