"""`mxgpt perplexity` against `mxgpt logits`, and errors for texts that cannot be scored."""

import json

import numpy as np
import program
import pytest
from program import NANO
from safetensors.numpy import load_file


def mxgpt(*arguments, stdin=""):
    return program.mxgpt(*arguments, stdin=stdin, status=None)


def test_a_text_is_split_and_scored(tmp_path):
    texts = ["The wolf went into the wood. " * 6, "What is a verb? It is a word that tells what is done."]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts) + "\n")
    encoded = mxgpt(
        "tokenize", "--tokenizer", NANO, "--jsonl", stdin="".join(json.dumps(text) + "\n" for text in texts)
    )
    documents = [json.loads(line) for line in encoded.stdout.splitlines()]
    chunks = [ids[i : i + 16] for ids in documents for i in range(0, len(ids), 16) if len(ids) - i > 1]
    (tmp_path / "ids.json").write_text(json.dumps(chunks))
    mxgpt("logits", "-m", NANO, "--ids", tmp_path / "ids.json", "--out", tmp_path / "logits", "--full")
    nll = []
    for i, chunk in enumerate(chunks):
        logits = load_file(tmp_path / "logits")[f"{i}.logits"].astype(np.float64)[:-1]
        logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        nll.extend(-logprobs[np.arange(len(chunk) - 1), chunk[1:]])
    for source in ["--text", tmp_path / "text.jsonl"], ["--ids", tmp_path / "ids.json"]:
        result = mxgpt("perplexity", "-m", NANO, *source, "--chunk", 16, "--json", tmp_path / "out.json")
        assert result.returncode == 0, result.stderr
        figures = json.loads((tmp_path / "out.json").read_text())
        assert figures["scored_tokens"] == len(nll) and figures["chunks"] == len(chunks)
        assert figures["nll"] == pytest.approx(np.mean(nll), abs=1e-5)
        assert figures["perplexity"] == pytest.approx(np.exp(np.mean(nll)), rel=1e-5)
        assert figures["perplexity_standard_error"] > 0
        assert f"{figures['perplexity']:.4f}" in result.stdout


@pytest.mark.parametrize(
    "name, content, complaint",
    [
        ("a.txt", b"", "has 0 tokens"),
        ("a.txt", b"a", "at least two"),
        ("a.txt", b"\xff\xfe\x00", "is not UTF-8"),
        ("a.jsonl", b'{"text": "x y z"}\n{"text": 5}\n', "line 2"),
        ("a.jsonl", b'{"text": "x y z"}\n{"txet": "x"}\n', "'text' is missing"),
        ("a.jsonl", b"[[[[", "is not valid JSON"),
    ],
)
def test_an_unusable_text_gives_one_sentence(tmp_path, name, content, complaint):
    (tmp_path / name).write_bytes(content)
    result = mxgpt("perplexity", "-m", NANO, "--text", tmp_path / name)
    assert result.returncode == 1 and complaint in result.stderr and result.stderr.count("\n") == 1


def test_invalid_options_give_one_sentence(tmp_path):
    assert "--text" in mxgpt("perplexity", "-m", NANO).stderr
    (tmp_path / "ids.json").write_text("[[5], [6]]")
    assert "nothing to score" in mxgpt("perplexity", "-m", NANO, "--ids", tmp_path / "ids.json").stderr
    (tmp_path / "ids.json").write_text("[[5, 9000]]")
    assert "vocabulary" in mxgpt("perplexity", "-m", NANO, "--ids", tmp_path / "ids.json").stderr
    assert mxgpt("perplexity", "-m", NANO, "--ids", "x", "--text", "y").returncode == 2
    assert mxgpt("perplexity", "-m", NANO, "--ids", "x", "--chunk", "1").returncode == 2
