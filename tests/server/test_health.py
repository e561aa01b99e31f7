"""/health during and after loading, options of `mxgpt serve`, requests from web pages."""

import hashlib
import json
import urllib.error
import urllib.request

import pytest
from program import NANO, TIMEOUT_S, mxgpt
from serving import eventually, serve

NORWAY = {
    "messages": [{"role": "user", "content": "What is the capital of Norway?"}],
    "temperature": 0,
    "reasoning_effort": "low",
}


def ask(url, body=None, headers={}):
    data = json.dumps(body).encode() if body else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=TIMEOUT_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def model_hash():
    return hashlib.sha256(mxgpt("verify", NANO).stdout.encode()).hexdigest()


def test_health_and_options():
    options = [
        "--kv",
        "q8_0",
        "--accumulate",
        "f16",
        "--threads",
        "1",
        "--no-mmap",
        "--ctx",
        "4096",
        "--device",
        "cpu",
        "--name",
        "nano",
    ]
    with serve(*options) as server:
        status, answer = ask(server.url + "/v1/chat/completions", NORWAY)
        assert status == 200 and "Oslo" in answer["choices"][0]["message"]["content"]
        # The hash is computed in the background, and a response arrives shortly before its request is no longer counted.
        assert eventually(lambda: ask(server.url + "/health")[1]["model_sha256"])
        assert eventually(lambda: ask(server.url + "/health")[1]["requests"]["running"] == 0)
        status, health = ask(server.url + "/health")
    assert status == 200
    assert health["model_sha256"] == model_hash()
    expected = {
        "status": "ready", "model": "nano", "architecture": "gpt-oss", "quant_kind": "bf16", "device": "cpu",
        "compute_capability": None, "cuda_version": None, "chat_format": "harmony", "context_length": 4096,
        "requests": {"running": 0, "queued": 0},
    }  # fmt: skip
    assert {key: health[key] for key in expected} == expected
    memory = health["device_memory"]
    assert memory["kv"] < memory["used"] == health["resident"] < 1.1 * memory["planned"]
    assert memory["planned"] == memory["weights"] + memory["kv"] + memory["workspace"] + memory["runtime"]
    assert memory["shortages"] == 0 and memory["fallbacks"] == [] and memory["budget"] is None
    assert health["vocabulary"] > 8000 and health["tokenizer"] and health["uptime_seconds"] >= 0


def test_a_known_hash_is_reported_at_once():
    known = model_hash()
    with serve("--expect-sha256", known.upper()) as server:
        assert ask(server.url + "/health")[1]["model_sha256"] == known


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    result = mxgpt("serve", "--port", "0", "-m", tmp_path / "broken.gguf", status=1)
    assert "broken.gguf" in result.stderr.splitlines()[-1]
    assert "listening on http://127.0.0.1:" in result.stderr and result.stdout == ""


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 200), ({"origin": "{url}"}, 200), ({"origin": "https://evil.example"}, 403), ({"origin": "null"}, 403),
        ({"host": "evil.example"}, 403), ({"host": "evil.example", "origin": "http://evil.example"}, 403),
    ],
)  # fmt: skip
def test_web_pages_of_other_origins_are_refused(headers, status):
    with serve() as server:
        headers = {key: value.format(url=server.url) for key, value in headers.items()}
        got, answer = ask(server.url + "/tokenize", {"text": "Hello"}, headers)
    assert got == status
    if status == 403:
        assert answer["error"]["type"] == "permission_error"


def test_the_allowed_origin_is_accepted():
    with serve("--cors-origin", "https://chat.example") as server:
        assert ask(server.url + "/tokenize", {"text": "Hello"}, {"origin": "https://chat.example"})[0] == 200
        assert ask(server.url + "/tokenize", {"text": "Hello"}, {"origin": "https://evil.example"})[0] == 403
