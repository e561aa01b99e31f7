"""Files from `mxgpt convert` in llama.cpp (package xllamacpp): same token ids, same greedy completions."""

import json
import urllib.request

import pytest
import xllamacpp
from program import NANO, mxgpt

PROMPTS = sorted(
    map(json.loads, (NANO / "reference-greedy.jsonl").read_text().splitlines()),
    key=lambda r: len(r["prompt_ids"]) + len(r["output_ids"]),
)[:4]


@pytest.fixture(scope="module", params=["bf16", "f16", "f32", "q8_0"])
def server(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("llama") / f"{request.param}.gguf"
    mxgpt("convert", NANO, path, "--dense", request.param)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = 1024
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.warmup = False
    running = xllamacpp.Server(parameters)
    address = running.listening_address

    def post(route, **body):
        call = urllib.request.Request(address + route, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(call, timeout=120) as answer:
            return json.load(answer)

    yield post
    del running


@pytest.mark.parametrize("reference", PROMPTS, ids=lambda r: r["skill"])
def test_same_ids_and_answer(server, reference):
    tokens = server("/tokenize", content=reference["prompt"], parse_special=True, add_special=True)["tokens"]
    assert tokens == reference["prompt_ids"]
    # One token more than needed: generation must end at the end token.
    answer = server(
        "/completion",
        prompt=tokens,
        n_predict=len(reference["output_ids"]) + 1,
        samplers=["top_k"],
        top_k=1,
        return_tokens=True,
    )
    assert answer["tokens"] == reference["output_ids"]
    assert answer["stop_type"] == "eos"
