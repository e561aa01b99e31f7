"""/v1/responses with the official openai package: items, events, tools, structured output; stored responses."""

import asyncio
import concurrent.futures
import json
import os
import resource
import signal
import subprocess
import sys
import urllib.request

import openai
import pytest
import tools
from program import TIMEOUT_S, mxgpt
from serving import Server, eventually, first_complete, serve

MODEL = "gpt-oss-nano"
NORWAY = "What is the capital of Norway?"
OSLO = "The capital of Norway is Oslo."
WEATHER, TIMER = tools.for_responses(tools.WEATHER), tools.for_responses(tools.TIMER)


def connect(server, key="none"):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=TIMEOUT_S)


@pytest.fixture(scope="module")
def client(server):
    return connect(server)


def ask(client, input=NORWAY, **more):
    return client.responses.create(
        model=MODEL, input=input, **{"temperature": 0, "reasoning": {"effort": "low"}, **more}
    )


# ---- answers -----------------------------------------------------------------------------------------------


def test_answers(client):
    answer = ask(client, instructions="Be short.", metadata={"a": "b"}, max_output_tokens=200)
    assert answer.output_text == OSLO and answer.status == "completed" and answer.error is None
    assert answer.object == "response" and answer.model == MODEL and answer.id.startswith("resp_")
    assert answer.instructions == "Be short." and answer.metadata == {"a": "b"} and answer.max_output_tokens == 200
    assert answer.output[-1].type == "message" and answer.output[-1].status == "completed"
    assert answer.output[-1].phase == "final_answer" and answer.completed_at >= answer.created_at
    usage = answer.usage
    assert usage.input_tokens > 50 and usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert 0 <= usage.output_tokens_details.reasoning_tokens < usage.output_tokens


def test_reasoning_is_an_item(client):
    answer = ask(client, reasoning={"effort": "high", "summary": "auto"})
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert len(answer.output[0].content[0].text) > 5 and "Oslo" in answer.output_text
    assert answer.usage.output_tokens_details.reasoning_tokens > 3


def check_events(events):
    """Checks the order that clients rely on; returns the streamed text, arguments and items."""
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert [e.type for e in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type in ("response.completed", "response.incomplete", "response.failed")
    items, index, texts, open_part = [], -1, {}, None
    for event in events[2:-1]:
        kind = event.type
        if kind == "response.output_item.added":
            index += 1
            assert event.output_index == index and event.item.status == "in_progress"
            items.append(None)
            current = event.item.id
        elif kind == "response.output_item.done":
            assert event.output_index == index and event.item.id == current and open_part is None
            items[index] = event.item
        else:
            assert event.output_index == index and event.item_id == current
            if kind == "response.content_part.added":
                open_part, texts[current] = event.part.type, ""
                assert event.part.text == ""
            elif kind == "response.content_part.done":
                assert event.part.type == open_part and event.part.text == texts[current]
                open_part = None
            elif kind.endswith(".delta"):
                texts[current] = texts.get(current, "") + event.delta
            elif kind == "response.function_call_arguments.done":
                assert event.arguments == texts[current]
            else:
                assert kind in ("response.output_text.done", "response.reasoning_text.done"), kind
                assert event.text == texts[current]
    assert None not in items
    assert [i.model_dump() for i in items] == [i.model_dump() for i in events[-1].response.output]
    return events[-1].response


def test_a_stream_is_the_answer(client):
    whole = ask(client, reasoning={"effort": "high"})
    response = check_events(list(ask(client, reasoning={"effort": "high"}, stream=True)))
    assert response.output_text == whole.output_text and response.usage.total_tokens == whole.usage.total_tokens
    assert response.output[0].content[0].text == whole.output[0].content[0].text


def test_the_stream_helper_of_the_client(client):
    with client.responses.stream(model=MODEL, input=NORWAY, temperature=0) as stream:
        deltas = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert deltas == final.output_text and "Oslo" in deltas


def test_async(server):
    async def both():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none") as client:
            answers = await asyncio.gather(*(ask(client) for _ in range(8)))
            events = [event async for event in await ask(client, stream=True)]
            again = await client.responses.retrieve(answers[0].id)
            return [a.output_text for a in answers] + [check_events(events).output_text, again.output_text]

    assert set(asyncio.run(both())) == {OSLO}


def test_a_truncated_response_is_incomplete(client):
    for tokens in range(1, 12):
        answer = ask(client, max_output_tokens=tokens)
        assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"
        assert answer.usage.output_tokens == tokens
    events = list(ask(client, max_output_tokens=9, stream=True))
    assert events[-1].type == "response.incomplete" and check_events(events).output[-1].status == "incomplete"


def test_a_budget_that_ends_in_a_header_gives_no_text(client):
    for tokens in range(1, 31):
        assert OSLO.startswith(ask(client, max_output_tokens=tokens).output_text)
    assert ask(client, max_output_tokens=3).output_text == ""


def test_logprobs(client):
    answer = ask(client, top_logprobs=2, include=["message.output_text.logprobs"])
    logprobs = answer.output[-1].content[0].logprobs
    assert b"".join(bytes(t.bytes) for t in logprobs).decode() == answer.output_text
    assert all(len(t.top_logprobs) == 2 and t.logprob <= 0 for t in logprobs)
    streamed = [
        t
        for e in ask(client, top_logprobs=2, stream=True)
        if e.type == "response.output_text.delta"
        for t in e.logprobs
    ]
    assert [t.token for t in streamed] == [t.token for t in logprobs]
    assert ask(client).output[-1].content[0].logprobs == []


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}


def test_structured_output(client):
    form = {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}
    items = [
        {"role": "system", "content": "Reply with JSON only."},
        {"role": "user", "content": "Jonas is 43 years old and lives in Seattle."},
    ]
    answer = ask(client, items, text={"format": form}, reasoning={"effort": "high"})
    assert json.loads(answer.output_text) == {"name": "Jonas", "age": 43, "city": "Seattle"}
    assert answer.output[0].type == "reasoning"
    assert isinstance(json.loads(ask(client, items, text={"format": {"type": "json_object"}}).output_text), dict)


# ---- tools -------------------------------------------------------------------------------------------------


def test_a_tool_loop(client):
    items = [{"role": "user", "content": "What is the weather in Denver?"}]
    first = ask(client, items, tools=[WEATHER], reasoning={"effort": "medium"})
    call = first.output[-1]
    assert call.type == "function_call" and call.name == "get_weather" and first.status == "completed"
    assert json.loads(call.arguments) == {"location": "Denver"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"temperature":21,"sky":"sunny"}'}
    items += [item.model_dump() for item in first.output] + [result]
    by_hand = ask(client, items, tools=[WEATHER])
    by_store = ask(client, [result], tools=[WEATHER], previous_response_id=first.id)
    assert "21" in by_hand.output_text and by_store.output_text == by_hand.output_text
    assert by_store.usage.input_tokens == by_hand.usage.input_tokens
    assert by_store.previous_response_id == first.id


def test_a_call_in_a_stream(client):
    events = list(ask(client, "Set a timer for 22 minutes.", tools=[TIMER], stream=True))
    call = check_events(events).output[-1]
    assert call.name == "set_timer" and json.loads(call.arguments) == {"minutes": 22}


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_tool_choice(client, temperature):
    def calls(choice):
        def answer(_):
            return ask(
                client, tools=[TIMER, WEATHER], tool_choice=choice, temperature=temperature, max_output_tokens=400
            )

        complete = first_complete(answer, lambda response: response.status != "incomplete")
        return [i.name for i in complete.output if i.type == "function_call"]

    assert calls("none") == []
    assert len(calls("required")) == 1
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_weather"}]}
    for choice in ({"type": "function", "name": "get_weather"}, allowed):
        assert calls(choice) == ["get_weather"]


# ---- stored responses ------------------------------------------------------------------------------------------


def test_a_conversation_continues(client):
    first = ask(client, "My name is Carla.", instructions="Be kind and short.")
    second = ask(client, "What is my name?", previous_response_id=first.id)
    assert "Carla" in second.output_text and second.instructions is None
    by_hand = ask(client, [{"role": "user", "content": "My name is Carla."}, *[i.model_dump() for i in first.output],
                           {"role": "user", "content": "What is my name?"}])  # fmt: skip
    assert by_hand.usage.input_tokens == second.usage.input_tokens


def test_reasoning_is_kept_between_calls_and_dropped_after_the_answer(client):
    def tokens(items):
        return ask(client, items, tools=[WEATHER], max_output_tokens=1).usage.input_tokens

    user = {"role": "user", "content": "What is the weather in Denver?"}
    reasoning = {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "I should look it up. " * 20}],
    }
    call = {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "sunny"}
    assert tokens([user, reasoning, call, output]) > tokens([user, call, output]) + 50
    done = [{"role": "assistant", "content": "Sunny."}, user]
    assert tokens([user, reasoning, call, output, *done]) == tokens([user, call, output, *done])


def test_stored_responses_can_be_read_and_deleted(client):
    items = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "input_text", "text": NORWAY}]},
    ]
    answer = ask(client, items)
    assert client.responses.retrieve(answer.id).model_dump() == answer.model_dump()
    listed = list(client.responses.input_items.list(answer.id, order="asc"))
    assert [i.role for i in listed] == ["developer", "user"] and listed[1].content[0].text == NORWAY
    assert [i.role for i in client.responses.input_items.list(answer.id, limit=1)] == ["user", "developer"]
    client.responses.delete(answer.id)
    for forgotten in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            forgotten(answer.id)
    with pytest.raises(openai.NotFoundError, match="not stored"):
        ask(client, previous_response_id=answer.id)


def test_store_false_stores_nothing(client):
    answer = ask(client, store=False)
    assert answer.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_other_keys_cannot_see_a_response(tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("ada 0123456789abcdef\nbob fedcba9876543210\n")
    with serve("--api-keys", keys) as server:
        ada, bob = connect(server, "0123456789abcdef"), connect(server, "fedcba9876543210")
        answer = ask(ada)
        assert ada.responses.retrieve(answer.id).output_text == OSLO
        for forbidden in (bob.responses.retrieve, bob.responses.delete, bob.responses.input_items.list):
            with pytest.raises(openai.NotFoundError):
                forbidden(answer.id)
        with pytest.raises(openai.NotFoundError):
            ask(bob, previous_response_id=answer.id)
        assert ask(ada, "And of Denmark?", previous_response_id=answer.id).status == "completed"


def test_kill_9_loses_no_response(tmp_path):
    file = tmp_path / "responses.db"
    server = Server("--store", file)
    client = connect(server)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(client), range(24)))
    unfinished = ask(client, "Write a long story.", stream=True, temperature=1)
    next(iter(unfinished))
    server.stop(signal.SIGKILL)
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    with serve("--store", file) as server:
        client = connect(server)
        for answer in answers:
            assert client.responses.retrieve(answer.id).model_dump() == answer.model_dump()
        assert ask(client, "And of Denmark?", previous_response_id=answers[0].id).status == "completed"
        second = mxgpt("serve", "--port", "0", "--store", file, status=1)
        assert "--response-store: cannot use" in second.stderr


def test_the_least_recently_used_are_evicted(tmp_path):
    with serve("--stored", 4) as server:
        client = connect(server)
        root = ask(client, "My name is Carla.")
        follower = root
        others = []
        for number in range(6):
            others.append(ask(client, f"{number}"))
            follower = ask(client, "What is my name?", previous_response_id=root.id)  # also uses the root
        metrics = urllib.request.urlopen(server.url + "/metrics").read().decode()
        assert "mxgpt_stored_responses 4\n" in metrics
        assert client.responses.retrieve(root.id) and client.responses.retrieve(follower.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(others[0].id)


def test_continuing_a_deleted_response_is_refused(client):
    first = ask(client, "My name is Carla.")
    second = ask(client, "What is my name?", previous_response_id=first.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match=first.id):
        ask(client, "And now?", previous_response_id=second.id)


def test_other_files_are_refused_as_a_store(tmp_path):
    garbage, other = tmp_path / "garbage.db", tmp_path / "other.db"
    garbage.write_bytes(b"no database at all" * 1000)
    subprocess.run(
        [sys.executable, "-c", f"import sqlite3; sqlite3.connect({str(other)!r}).execute('create table t (x)')"],
        check=True,
    )
    for file in (garbage, other, tmp_path / "nowhere" / "responses.db"):
        result = mxgpt("serve", "--port", "0", "--store", file, status=1)
        assert "--response-store: " in result.stderr and str(file) in result.stderr
    assert garbage.read_bytes() == b"no database at all" * 1000


def test_a_full_disk_does_not_stop_generation(tmp_path):
    """A file size limit of 200 kB looks like a full disk to SQLite."""
    resource_limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource_limits[1]))
    try:
        server = Server("--store", tmp_path / "responses.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, resource_limits)
    try:
        client = connect(server)
        long = [{"role": "user", "content": "word " * 4000}, {"role": "user", "content": NORWAY}]
        answers = [ask(client, long, max_output_tokens=3) for _ in range(16)]
        stored = [a for a in answers if a.store]
        assert stored and len(stored) < 16
        for answer in stored:
            assert client.responses.retrieve(answer.id).id == answer.id
        health = json.load(urllib.request.urlopen(server.url + "/health"))
        assert health["status"] == "degraded" and "not stored" in health["last_failure"]
        lost = next(a for a in answers if not a.store)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(lost.id)
        assert ask(client, store=False).output_text == OSLO
    finally:
        assert server.stop() == 0
    assert any("cannot store response" in line for line in server.log)


def test_a_damaged_file_is_reported(tmp_path):
    file = tmp_path / "responses.db"
    with serve("--store", file) as server:
        answers = [ask(connect(server), "word " * 3000, max_output_tokens=2) for _ in range(4)]
    with file.open("r+b") as f:  # content pages only
        f.seek(4096)
        f.write(os.urandom(file.stat().st_size - 4096))
    result = None
    try:
        with serve("--store", file) as server:
            client = connect(server)
            for answer in answers:
                with pytest.raises(openai.APIStatusError) as error:
                    client.responses.retrieve(answer.id)
                result = error.value.status_code
            assert ask(client, store=False).output_text == OSLO
    except RuntimeError as refused:  # the damage may be detected at start-up
        result = str(refused)
    assert result == 500 or "--response-store: cannot use" in result


# ---- errors ------------------------------------------------------------------------------------------------


def raw(server, body):
    request = urllib.request.Request(server.url + "/v1/responses", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    "field, value",
    [
        ("input", 3), ("input", []), ("input", [3]), ("input", [{"role": "king", "content": "x"}]), ("input", [{"type": "odd"}]),
        ("input", [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]),
        ("input", [{"role": "user", "content": "x", "odd": 1}]), ("input", [{"role": "system", "content": "only"}]),
        ("input", [{"type": "function_call_output", "call_id": "x", "output": "y"}]),
        ("input", [{"role": "user", "content": "x"}, {"type": "function_call", "call_id": "x", "name": "f", "arguments": "{}"}]),
        ("tools", [{"type": "web_search"}]), ("tools", [WEATHER, WEATHER]), ("tools", [{"type": "function", "name": "a b"}]),
        ("tool_choice", "required"), ("tool_choice", {"type": "function", "name": "none"}), ("tool_choice", {"type": "odd"}),
        ("text", {"format": {"type": "odd"}}), ("text", {"format": {"type": "json_schema", "schema": {}}}),
        ("text", {"format": {"type": "json_schema", "name": "x", "schema": {"type": "strong"}}}),
        ("reasoning", {"effort": "maximal"}), ("max_output_tokens", 0), ("max_output_tokens", 1.5), ("background", True),
        ("conversation", "conv_1"), ("prompt", {"id": "x"}), ("n", 2), ("max_tokens", 5), ("top_logprobs", 21), ("truncation", "odd"),
        ("temperature", 3), ("previous_response_id", 5), ("store", "yes"), ("include", [1]), ("stream_options", {"include_usage": True}),
    ],
)  # fmt: skip
def test_errors_name_the_field(server, field, value):
    status, answer = raw(server, {"input": NORWAY, "max_output_tokens": 5, field: value})
    assert status == 400, answer
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["param"].split("[")[0].split(".")[0] == field


def test_too_long_prompts():
    with serve("--ctx", 2048) as server:
        check_too_long_prompts(connect(server))


def check_too_long_prompts(client):
    turns = [{"role": "user", "content": f"{n} " + "word " * 300} for n in range(20)]
    turns = [t for turn in turns for t in (turn, {"role": "assistant", "content": "Good."})] + [
        {"role": "user", "content": NORWAY}
    ]
    with pytest.raises(openai.BadRequestError, match="leave no room"):
        ask(client, turns)
    answer = ask(client, turns, truncation="auto", max_output_tokens=16)
    assert 1500 < answer.usage.input_tokens <= 2048 - 16
    with pytest.raises(openai.BadRequestError, match="leave no room"):
        ask(client, "word " * 4000, truncation="auto")


def test_a_disconnect_frees_everything(server, client):
    before = kept(server)
    ends = client.post("/../tokenize", body={"text": "<|return|><|end|><|call|>", "parse_special": True}, cast_to=dict)[
        "tokens"
    ]
    for _ in range(5):
        stream = ask(
            client, stream=True, temperature=1.3, extra_body={"logit_bias": {str(token): -100 for token in ends}}
        )
        next(iter(stream))
        stream.close()
    assert eventually(
        lambda: json.load(urllib.request.urlopen(server.url + "/health"))["requests"] == {"running": 0, "queued": 0}
    )
    assert kept(server) == before


def kept(server):
    metrics = urllib.request.urlopen(server.url + "/metrics").read().decode()
    return next(line for line in metrics.splitlines() if line.startswith("mxgpt_stored_responses "))
