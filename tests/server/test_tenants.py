"""Prefix caching reveals nothing across API keys."""

import json
import urllib.request

import pytest
from program import TIMEOUT_S
from serving import serve

KEYS = {"ada": "0123456789abcdef", "bob": "fedcba9876543210"}


def record(route):
    """A prompt unique to a route."""
    return f"Record of {route}. " + "The patient is well and lives by the river. " * 20 + "Diagnosis code: K21."


def post(server, key, path, body):
    headers = {"authorization": "Bearer " + KEYS[key], "content-type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return json.load(answer)["usage"]


def chat(server, key):
    body = {"messages": [{"role": "user", "content": record("chat")}], "max_tokens": 1}
    return post(server, key, "/v1/chat/completions", body)["prompt_tokens_details"]["cached_tokens"]


def completion(server, key):
    return post(server, key, "/v1/completions", {"prompt": record("completion"), "max_tokens": 1})[
        "prompt_tokens_details"
    ]["cached_tokens"]


def response(server, key):
    body = {"input": record("response"), "max_output_tokens": 1, "store": False}
    return post(server, key, "/v1/responses", body)["input_tokens_details"]["cached_tokens"]


def message(server, key):
    body = {"messages": [{"role": "user", "content": record("message")}], "max_tokens": 1}
    return post(server, key, "/v1/messages", body)["cache_read_input_tokens"]


@pytest.mark.parametrize("options, shared", [([], False), (["--share-prefix-cache"], True)])
def test_the_prefix_cache_is_per_key(tmp_path, options, shared):
    keys = tmp_path / "keys.txt"
    keys.write_text("".join(f"{name} {key}\n" for name, key in KEYS.items()))
    with serve("--api-keys", keys, *options) as server:
        for cached_tokens in (chat, completion, response, message):
            # Prompts of different routes may share their system message, less than 100 tokens.
            first = cached_tokens(server, "ada")
            again = cached_tokens(server, "ada")
            other = cached_tokens(server, "bob")
            assert again > 100 and again > first, cached_tokens
            assert (other == again) if shared else (other < 100), cached_tokens
