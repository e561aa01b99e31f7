"""Random valid requests over all options, and a check of the responses."""

import json

from openai.types.chat import ChatCompletion, ChatCompletionChunk

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 30}, "size": {"enum": ["small", "large"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TEXTS = [
    "What is the capital of Norway?", "Set a timer for 22 minutes.", "", " ", "\x00\x01\x7f", "<|start|>system<|message|>x<|end|>",
    "<|channel|>", "Grüße 世界 🏳️‍🌈", "a" * 300, "\ufeff\u202e", '{"a": [1, 2', "</think>", "\\ud800", "1 " * 50,
]  # fmt: skip


def tool(name):
    return {"type": "function", "function": {"name": name, "description": f"Does {name}.", "parameters": CITY}}


def maybe(random, body, chance, **more):
    if random.random() < chance:
        body.update(more)


def sampling(random, body):
    """Options shared by chats and completions."""
    maybe(random, body, 0.7, temperature=random.choice([0, 0.3, 1, 1.5, 2]))
    maybe(random, body, 0.3, top_p=random.choice([0, 0.01, 0.5, 0.95, 1]))
    maybe(random, body, 0.2, top_k=random.choice([0, 1, 40, 1000000]))
    maybe(random, body, 0.2, min_p=random.choice([0, 0.05, 1]))
    maybe(random, body, 0.2, repetition_penalty=random.choice([0.01, 0.9, 1.1, 100]))
    maybe(random, body, 0.2, presence_penalty=random.choice([-2, 0.5, 2]))
    maybe(random, body, 0.2, frequency_penalty=random.choice([-2, 0.5, 2]))
    maybe(random, body, 0.4, seed=random.choice([0, 1, -1, 2**63 - 1, -(2**63), 12345]))
    maybe(random, body, 0.2, logit_bias={str(random.randrange(8000)): random.choice([-100, -1, 0.5, 100])})
    maybe(random, body, 0.2, stop=random.choice(["Oslo", ["."], [" the", "\n", "é", "x" * 1024], [], ["e"] * 16]))
    maybe(random, body, 0.3, n=random.choice([1, 2, 5]))
    maybe(random, body, 0.2, priority=random.choice([-100, 0, 100]))
    maybe(random, body, 0.1, user="me")
    if random.random() < 0.4:
        body["stream"] = True
        maybe(random, body, 0.5, stream_options={"include_usage": random.random() < 0.5})
    return body


def valid_chat(random):
    """The body of a request to /v1/chat/completions that must be answered."""
    messages = []
    if random.random() < 0.4:
        messages.append({"role": random.choice(["system", "developer"]), "content": random.choice(TEXTS)})
    for turn in range(random.choice([0, 0, 0, 1, 2])):
        messages.append({"role": "user", "content": random.choice(TEXTS)})
        answer = {"role": "assistant", "content": random.choice(TEXTS)}
        maybe(random, answer, 0.3, reasoning_content=random.choice(TEXTS))
        if random.random() < 0.3:
            call = {"name": "look_up", "arguments": json.dumps({"city": random.choice(TEXTS)})}
            answer = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"c{turn}", "type": "function", "function": call}],
            }
            messages.append(answer)
            messages.append({"role": "tool", "tool_call_id": f"c{turn}", "content": random.choice(TEXTS)})
        else:
            messages.append(answer)
    text = random.choice(TEXTS)
    parts = [{"type": "text", "text": text}, {"type": "text", "text": random.choice(TEXTS)}]
    messages.append({"role": "user", "content": parts if random.random() < 0.2 else text})
    body = sampling(random, {"messages": messages})
    body[random.choice(["max_tokens", "max_completion_tokens"])] = random.choice([1, 2, 5, 20, 60])
    maybe(random, body, 0.3, reasoning_effort=random.choice(["low", "medium", "high"]))
    maybe(random, body, 0.3, logprobs=True, top_logprobs=random.choice([0, 1, 20]))
    maybe(random, body, 0.2, metadata={"a": "b"}, store=False)
    if random.random() < 0.4:
        body["tools"] = [tool(name) for name in random.choice([["look_up"], ["look_up", "a_b-C"]])]
        named = {"type": "function", "function": {"name": "look_up"}}
        maybe(random, body, 0.6, tool_choice=random.choice(["auto", "none", "required", named]))
        maybe(random, body, 0.3, parallel_tool_calls=random.random() < 0.5)
    if random.random() < 0.4:
        schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
        body["response_format"] = random.choice(
            [{"type": "text"}, {"type": "json_object"}, schema, {"type": "regex", "regex": "[0-9]{3}"},
             {"type": "grammar", "grammar": 'root ::= "Oslo" | "Rome"'}])  # fmt: skip
    return body


def valid_completion(random):
    """The same to /v1/completions."""
    prompt = random.choice(
        ["Once upon a time", ["A", "The capital of"], [1, 2, 3], [[5], [6, 7]], "<|start|>user<|message|>Hi<|end|>"]
    )
    body = sampling(random, {"prompt": prompt})
    body["max_tokens"] = random.choice([1, 5, 40])
    maybe(random, body, 0.3, logprobs=random.choice([0, 1, 5]))
    maybe(random, body, 0.3, echo=True)
    maybe(random, body, 0.3, ignore_eos=True)
    return body


def valid_request(random):
    """Path and body."""
    if random.random() < 0.75:
        return "/v1/chat/completions", valid_chat(random)
    return "/v1/completions", valid_completion(random)


def check(path, body, status, content_type, text):
    """Raises unless the answer is one that the API may give; what its choices ended by, or the error's code.

    Chats are held to the types of the openai package. Its type of completions forbids what the API does give (null for
    the first token's log probability, and as finish_reason before the end of a stream).
    """
    if status != 200:
        assert content_type == "application/json", content_type
        error = json.loads(text)["error"]
        assert isinstance(error["message"], str) and error["message"] and isinstance(error["type"], str), error
        assert {"param", "code"} <= set(error), error
        assert 400 <= status < 500, (status, error)
        return {f"{status} {error['code']}"}
    chat = path == "/v1/chat/completions"
    if not body.get("stream"):
        assert content_type == "application/json", content_type
        answer = json.loads(text)
        prompts = body.get("prompt")
        several = len(prompts) if isinstance(prompts, list) and not isinstance(prompts[0], int) else 1
        assert [c["index"] for c in answer["choices"]] == list(range(several * body.get("n", 1)))
        usage = answer["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        if chat:
            for choice in ChatCompletion.model_validate_json(text).choices:
                check_choice(body, choice)
        else:
            assert answer["object"] == "text_completion" and all(isinstance(c["text"], str) for c in answer["choices"])
        return {c["finish_reason"] for c in answer["choices"]}
    assert content_type == "text/event-stream", content_type
    events = [event for event in text.split(b"\n\n") if not event.startswith(b":")]  # comments say that it lives
    assert events.pop() == b"" and events.pop() == b"data: [DONE]" and all(e.startswith(b"data: ") for e in events), (
        text[-300:]
    )
    ends = {}
    for event in events:
        value = json.loads(event[6:])
        if "error" in value:  # the model broke off: the headers were sent
            assert event is events[-1] and value["error"]["type"] == "invalid_request_error", value
            return {"told " + str(value["error"]["code"])}
        if chat:
            ChatCompletionChunk.model_validate(value)
        for choice in value["choices"]:
            assert choice["index"] not in ends, "after its end"
            assert chat or isinstance(choice["text"], str)
            if choice["finish_reason"]:
                ends[choice["index"]] = choice["finish_reason"]
    assert ends and sorted(ends) == list(range(len(ends)))
    return set(ends.values())


def check_choice(body, choice):
    message, form = choice.message, body.get("response_format", {}).get("type")
    names = [t["function"]["name"] for t in body.get("tools", [])]
    for call in message.tool_calls or []:
        assert call.function.name in names and body.get("tool_choice") != "none"
        if choice.finish_reason == "tool_calls":
            check_city(json.loads(call.function.arguments))
    if choice.finish_reason == "stop" and not body.get("stop"):
        content = message.content
        if form == "json_object":
            assert isinstance(json.loads(content), dict)
        elif form == "json_schema":
            check_city(json.loads(content))
        elif form == "regex":
            assert len(content) == 3 and content.isdigit()
        elif form == "grammar":
            assert content in ("Oslo", "Rome")


def check_city(value):
    assert (
        isinstance(value["city"], str)
        and set(value) <= {"city", "size"}
        and value.get("size", "small") in ("small", "large")
    ), value
