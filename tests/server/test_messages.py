"""/v1/messages with the official anthropic package: blocks, events, thinking, tools, error format."""

import asyncio
import json
import urllib.error
import urllib.request

import anthropic
import pytest
import tools
from program import TIMEOUT_S
from serving import first_complete, serve

MODEL = "gpt-oss-nano"
NORWAY = [{"role": "user", "content": "What is the capital of Norway?"}]
OSLO = "The capital of Norway is Oslo."
WEATHER, TIMER = tools.for_messages(tools.WEATHER), tools.for_messages(tools.TIMER)


@pytest.fixture(scope="module")
def client(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=TIMEOUT_S)


def ask(client, messages=NORWAY, temperature=0, **more):
    """The package has dropped the temperature parameter."""
    return client.messages.create(
        model=MODEL, messages=messages, extra_body={"temperature": temperature}, **{"max_tokens": 300, **more}
    )


def test_answers(client):
    answer = ask(client, system="Be short.")
    assert [b.type for b in answer.content] == ["text"] and answer.content[0].text == OSLO
    assert answer.type == "message" and answer.role == "assistant" and answer.model == MODEL
    assert answer.stop_reason == "end_turn" and answer.stop_sequence is None
    usage = answer.usage
    assert usage.input_tokens + usage.cache_read_input_tokens > 50 and 5 < usage.output_tokens < 60
    counted = client.messages.count_tokens(model=MODEL, messages=NORWAY, system="Be short.")
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_thinking(client):
    shown = ask(client, thinking={"type": "enabled", "budget_tokens": 20000}, max_tokens=400)
    assert [b.type for b in shown.content] == ["thinking", "text"]
    assert len(shown.content[0].thinking) > 5 and "Oslo" in shown.content[1].text
    hidden = ask(client, thinking={"type": "adaptive", "display": "omitted"})
    assert [b.type for b in hidden.content] == ["text"]
    by_effort = ask(client, output_config={"effort": "high"})
    assert by_effort.usage.output_tokens == shown.usage.output_tokens and len(by_effort.content) == 1


def test_a_stream_is_the_answer(client):
    more = {"thinking": {"type": "enabled", "budget_tokens": 20000}, "max_tokens": 400}
    whole = ask(client, **more)
    with client.messages.stream(model=MODEL, messages=NORWAY, extra_body={"temperature": 0}, **more) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert [b.to_dict() for b in final.content] == [b.to_dict() for b in whole.content] and text == whole.content[
        -1
    ].text
    assert final.stop_reason == "end_turn" and final.usage.output_tokens == whole.usage.output_tokens


def test_order_of_events(client):
    events = list(ask(client, [{"role": "user", "content": "Set a timer for 22 minutes."}], tools=[TIMER], stream=True,
                      thinking={"type": "adaptive"}))  # fmt: skip
    kinds = [e.type for e in events]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    assert events[0].message.content == [] and events[0].message.usage.input_tokens > 50
    index, is_open, joined = -1, False, ""
    for event in events[1:-2]:
        if event.type == "content_block_start":
            assert not is_open
            index, is_open, block = index + 1, True, event.content_block
        elif event.type == "content_block_stop":
            is_open = False
        elif event.delta.type == "input_json_delta":
            joined += event.delta.partial_json
        assert event.index == index
    assert not is_open and block.type == "tool_use" and block.name == "set_timer" and block.input == {}
    assert json.loads(joined) == {"minutes": 22} and events[-2].delta.stop_reason == "tool_use"


def test_async(server):
    async def both():
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none") as client:
            answers = await asyncio.gather(*(ask(client) for _ in range(8)))
            async with client.messages.stream(
                model=MODEL, messages=NORWAY, max_tokens=300, extra_body={"temperature": 0}
            ) as stream:
                streamed = "".join([text async for text in stream.text_stream])
            return [a.content[0].text for a in answers] + [streamed]

    assert set(asyncio.run(both())) == {OSLO}


def test_stop_reasons(client):
    stopped = ask(client, stop_sequences=["never", " Oslo"])
    assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == " Oslo"
    assert stopped.content[0].text == "The capital of Norway is"
    for tokens in range(1, 12):
        cut = ask(client, max_tokens=tokens, tools=[WEATHER], tool_choice={"type": "any"})
        assert cut.stop_reason == "max_tokens" and cut.usage.output_tokens == tokens


def test_a_budget_that_ends_in_a_header_gives_no_text(client):
    for tokens in range(1, 31):
        cut = ask(client, max_tokens=tokens)
        assert OSLO.startswith("".join(block.text for block in cut.content if block.type == "text"))
        assert cut.stop_reason in ("max_tokens", "end_turn")
    assert ask(client, max_tokens=3).content == []


def test_a_tool_loop(client):
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is the weather in Denver?"}]}]
    first = ask(client, messages, tools=[WEATHER], thinking={"type": "adaptive"})
    call = first.content[-1]
    assert first.stop_reason == "tool_use" and call.type == "tool_use"
    assert call.name == "get_weather" and call.input == {"location": "Denver"}
    result = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": [{"type": "text", "text": '{"temperature":21,"sky":"sunny"}'}],
    }
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = ask(client, messages, tools=[WEATHER])
    assert second.stop_reason == "end_turn" and "21" in second.content[-1].text


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_tool_choice(client, temperature):
    def calls(choice):
        def answer(_):
            return ask(client, tools=[TIMER, WEATHER], tool_choice=choice, temperature=temperature, max_tokens=400)

        complete = first_complete(answer, lambda message: message.stop_reason != "max_tokens")
        return [b.name for b in complete.content if b.type == "tool_use"]

    assert calls({"type": "none"}) == []
    assert len(calls({"type": "any"})) == 1
    assert calls({"type": "tool", "name": "get_weather"}) == ["get_weather"]


def test_a_schema(client):
    person = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
        "required": ["name", "age", "city"],
    }
    messages = [{"role": "user", "content": "Jonas is 43 years old and lives in Seattle."}]
    answer = ask(client, messages, system=[{"type": "text", "text": "Reply with JSON only.", "cache_control": {"type": "ephemeral"}}],
                 output_config={"format": {"type": "json_schema", "schema": person}})  # fmt: skip
    assert json.loads(answer.content[0].text) == {"name": "Jonas", "age": 43, "city": "Seattle"}


def test_thinking_is_kept_between_calls_and_dropped_after_the_answer(client):
    def tokens(messages):
        return client.messages.count_tokens(model=MODEL, messages=messages, tools=[WEATHER]).input_tokens

    user = {"role": "user", "content": "What is the weather in Denver?"}
    thinking = {"type": "thinking", "thinking": "I should look it up. " * 20, "signature": "x"}
    call = {"type": "tool_use", "id": "c", "name": "get_weather", "input": {}}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "sunny"}]}
    with_thinking = [user, {"role": "assistant", "content": [thinking, call]}, result]
    without = [user, {"role": "assistant", "content": [call]}, result]
    assert tokens(with_thinking) > tokens(without) + 50
    done = [{"role": "assistant", "content": "Sunny."}, user]
    assert tokens(with_thinking + done) == tokens(without + done)


# ---- errors ------------------------------------------------------------------------------------------------


def raw(url, body, headers={}):
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=TIMEOUT_S
        ) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}


@pytest.mark.parametrize(
    "field, value",
    [
        ("messages", []), ("messages", "Hi"), ("messages", [{"role": "system", "content": "x"}]), ("max_tokens", None), ("max_tokens", 0),
        ("messages", [{"role": "user", "content": [{"type": "image", "source": {}}]}]), ("messages", [*NORWAY, {"role": "assistant", "content": "The"}]),
        ("messages", [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]), ("messages", [*NORWAY, CALL, *NORWAY]),
        ("messages", [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]), ("messages", [{"content": "x"}]),
        ("tools", [{"type": "bash_20250124", "name": "bash"}]), ("tools", [{"name": "a b", "input_schema": {}}]), ("tools", [TIMER, TIMER]),
        ("tool_choice", {"type": "any"}), ("tool_choice", {"type": "tool", "name": "x"}), ("tool_choice", "any"), ("thinking", {"type": "enabled"}),
        ("thinking", {"type": "odd"}), ("stop_sequences", ["x"] * 17), ("temperature", 3), ("container", "x"), ("system", [{"type": "image"}]),
        ("output_config", {"format": {"type": "json_schema", "schema": {"type": "strong"}}}), ("n", 2),
    ],
)  # fmt: skip
def test_errors_name_the_field(server, field, value):
    status, answer = raw(server.url + "/v1/messages", {"messages": NORWAY, "max_tokens": 5, field: value})
    assert status == 400, answer
    assert answer["type"] == "error" and answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["message"].split(":")[0].split("[")[0].split(".")[0] == field


def test_other_errors(server, client, tmp_path):
    with pytest.raises(anthropic.NotFoundError) as error:
        client.messages.create(model="claude", messages=NORWAY, max_tokens=5)
    assert error.value.body["error"]["type"] == "not_found_error"
    assert raw(server.url + "/v1/messages", [])[1]["type"] == "error"
    keys = tmp_path / "keys.txt"
    keys.write_text("ada 0123456789abcdef 1\nbob fedcba9876543210\n")
    with serve("--api-keys", keys, "--max-body", 2000) as guarded:
        # Errors raised before the handler runs have the same format.
        bob = {"x-api-key": "fedcba9876543210"}
        for status, body, headers in (
            (413, ["x" * 2000], bob),
            (401, ["x" * 2000], {}),
            (431, [], {"x": "x" * 20000}),
            (401, [], {}),
        ):
            got, answer = raw(guarded.url + "/v1/messages", body, headers)
            assert got == status and answer["type"] == "error", answer
        known = anthropic.Anthropic(base_url=guarded.url, api_key="0123456789abcdef", max_retries=0)
        assert ask(known).content[0].text == OSLO
        with pytest.raises(anthropic.RateLimitError) as limited:
            ask(known)
        assert (
            limited.value.body["error"]["type"] == "rate_limit_error" and limited.value.response.headers["retry-after"]
        )
        with pytest.raises(anthropic.AuthenticationError):
            ask(anthropic.Anthropic(base_url=guarded.url, api_key="wrong", max_retries=0))
