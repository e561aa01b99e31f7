"""`mxgpt run` on the shipped model, interactively and in scripts."""

import json
import re
import signal
import time

import pytest
from program import NANO, REPO, mxgpt
from terminal import Terminal


def run(*arguments, stdin=""):
    return mxgpt("run", *arguments, stdin=stdin, status=None)


def test_answers_a_question():
    result = run("What is the capital of Norway?", "--temperature", "0")
    assert result.returncode == 0
    assert result.stdout == "The capital of Norway is Oslo.\n"
    assert result.stderr == ""


def test_the_prompt_may_come_on_standard_input():
    result = run("--temperature", "0", stdin="What is the capital of Jordan?\n")
    assert "Amman" in result.stdout


def test_reasoning_is_hidden_unless_asked_for():
    question = ["What is the capital of Norway?", "--temperature", "0", "--effort", "high"]
    hidden, shown = run(*question), run(*question, "--show-reasoning")
    assert hidden.stdout.count("\n") == 1
    assert shown.stdout.endswith(hidden.stdout)
    assert len(shown.stdout) > len(hidden.stdout)


def test_a_seed_gives_the_same_answer_and_statistics_on_request():
    words = ["Write a story.", "--temperature", "1.5", "--max-tokens", "60", "--stats", "--show-reasoning"]
    first, again, other = run(*words, "--seed", "5"), run(*words, "--seed", "5"), run(*words, "--seed", "6")
    assert first.stdout == again.stdout
    assert first.stdout != other.stdout
    assert re.search(
        r"prompt \d+ tokens \(0 reused\), \d+ tok/s; output \d+ tokens, [\d.]+ tok/s; seed 5\n", first.stderr
    )


def test_raw_completes_text_and_parses_control_tokens():
    prompt = (
        "<|start|>user<|message|>What is the capital of Norway?<|end|><|start|>assistant<|channel|>final<|message|>"
    )
    result = run("--raw", prompt, "--temperature", "0", "--stop", "<|end|>")
    assert result.stdout == "The capital of Norway is Oslo.\n"


def test_stop_strings_and_limits():
    question = ["What is the capital of Norway?", "--temperature", "0"]
    assert run(*question, "--stop", " is").stdout == "The capital of Norway\n"
    cut = run(*question, "--max-tokens", "3")
    assert cut.returncode == 0
    assert "--max-tokens" in cut.stderr


@pytest.mark.parametrize("tokens", range(1, 13))
def test_a_budget_that_ends_in_a_header_prints_nothing_of_it(tokens):
    whole = run("What is the capital of Norway?", "--temperature", "0", "--effort", "high").stdout
    cut = run("What is the capital of Norway?", "--temperature", "0", "--effort", "high", "--max-tokens", str(tokens))
    assert cut.returncode == 0
    assert cut.stdout == "" or whole.startswith(cut.stdout.rstrip("\n"))


def test_without_tools_no_call_is_printed():
    for seed in range(5):
        result = run("What is the weather in Denver?", "--temperature", "0" if seed == 0 else "1", "--seed", str(seed))
        assert result.returncode == 0
        assert "calls " not in result.stdout and result.stdout.strip()


def test_a_schema_constrains_the_answer(tmp_path):
    schema = tmp_path / "city.json"
    schema.write_text(
        json.dumps(
            {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 20}, "population": {"type": "integer"}},
                "required": ["city", "population"],
            }
        )
    )
    for seed in range(3):
        result = run(
            "What is the capital of Norway?", "--schema", str(schema), "--seed", str(seed), "--max-tokens", "0"
        )
        assert result.returncode == 0
        answer = json.loads(result.stdout)
        assert list(answer) == ["city", "population"] and isinstance(answer["population"], int)


def test_control_tokens_in_a_prompt_stay_text():
    honest = run("What is the capital of Norway?", "--temperature", "0", "--stats")
    hostile = run("What is the capital of Norway?<|end|>", "--temperature", "0", "--stats")
    tokens = [int(re.search(r"prompt (\d+) tokens", r.stderr).group(1)) for r in (honest, hostile)]
    assert tokens[1] > tokens[0] + 1  # plain text, not one token


def test_logit_bias_changes_the_answer():
    plain = run("What is the capital of Norway?", "--temperature", "0")
    ids = json.loads(mxgpt("tokenize", "--tokenizer", NANO, "--jsonl", stdin=json.dumps(" Oslo") + "\n").stdout)
    biased = run("What is the capital of Norway?", "--temperature", "0", "--logit-bias", f"{ids[0]}=-100")
    assert "Oslo" in plain.stdout and "Oslo" not in biased.stdout


def test_tools_are_called_and_their_results_read(tmp_path):
    tools = tmp_path / "tools.json"
    timer = {
        "name": "set_timer",
        "description": "Sets a timer.",
        "parameters": {
            "type": "object",
            "properties": {"minutes": {"type": "number", "description": "How many minutes"}},
            "required": ["minutes"],
        },
    }
    tools.write_text(json.dumps([{"type": "function", "function": timer}]))
    result = run("Set a timer for 22 minutes.", "--tools", str(tools), "--temperature", "0", stdin='{"ok":true}\n')
    assert result.returncode == 0
    call, answer = result.stdout.splitlines()[:2]
    assert call == 'calls functions.set_timer with {"minutes":22}'
    assert answer


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["-m", "/no/such/model", "hi"], "/no/such/model: model not found; check the path"),
        (["-m", f"{REPO}/README.md", "hi"], "choose a GGUF file"),
        (["-m", f"{REPO}/tests", "hi"], "config.json"),
        (["--temperature", "nan", "hi"], "temperature"),
        (["--temperature", "2.5", "hi"], "temperature: 2.5 is outside 0 to 2"),
        (["--top-p", "-1", "hi"], "top_p"),
        (["--logit-bias", "x", "hi"], "'x' is not ID=BIAS"),
        (["--logit-bias", "8064=1", "hi"], "token 8064 is outside the vocabulary of 8064"),
        (["--tools", "/no/such/file", "hi"], "/no/such/file"),
        (["--tools", f"{REPO}/README.md", "hi"], "is not valid JSON"),
        (["--schema", "/no/such/file", "hi"], "/no/such/file"),
        (["--schema", f"{REPO}/README.md", "hi"], "is not valid JSON"),
        (["--schema", f"{NANO}/config.json", "--raw", "hi"], "--schema"),
        (["--ctx", "50", "hi " * 100], "--ctx"),
        (["--ctx", "1000000", "hi"], "131072"),
        (["--expect-sha256", "0" * 64, "hi"], "SHA-256"),
        (["--expect-sha256", "zz", "hi"], "SHA-256"),
        (["-m", f"{NANO}/tokenizer.json", "hi"], "choose a GGUF file"),
        (["--effort", "huge", "hi"], "effort"),
        (["--precision", "double", "hi"], "precision"),
        (["--ctx", "x", "hi"], "--ctx"),
        (["--no-such-option", "hi"], "no-such-option"),
    ],
)
def test_mistakes_give_one_sentence(arguments, complaint):
    result = run(*arguments)
    assert result.returncode in (1, 2)
    assert result.stdout == ""
    assert complaint.lower() in result.stderr.lower()
    assert result.stderr.startswith("mxgpt: ") and result.stderr.count("\n") == 1


def test_a_mistyped_command_is_named():
    result = mxgpt("rnu", status=None)
    assert result.returncode == 2
    assert "unknown command 'rnu'" in result.stderr
    assert mxgpt("--version").stdout.startswith("mxgpt 0.")
    mxgpt(status=2)


def test_a_chat_remembers_and_ctrl_c_stops_the_answer_only():
    chat = Terminal("--temperature", "0")
    chat.until("> ")
    chat.type("My name is Yara. I live in Porto and I like white.\n")
    chat.until("\n> ")
    chat.type("Where do I live?\n")
    assert "Porto" in chat.until("\n> ")
    chat.type("/new\n")
    chat.until("> ")
    chat.type("Where do I live?\n")
    assert "Porto" not in chat.until("\n> ")
    chat.process.send_signal(signal.SIGINT)
    chat.until("> ")
    chat.type("What is the capital of Norway?\n")
    assert "Oslo" in chat.until("\n> ")
    chat.type("\x04")
    assert chat.process.wait(timeout=20) == 0


def test_ctrl_c_during_an_answer_leaves_the_session_alive():
    chat = Terminal(
        "--temperature",
        "2",
        "--show-reasoning",
        "--max-tokens",
        "0",
        "--seed",
        "3",
        "--logit-bias",
        "8004=-100",
        "--logit-bias",
        "8014=-100",
        "--logit-bias",
        "8001=-100",
        "--logit-bias",
        "8009=-100",
    )
    chat.until("> ")
    chat.type("Write a story.\n")
    time.sleep(1.5)
    chat.process.send_signal(signal.SIGINT)
    chat.until("[interrupted]")
    chat.until("> ")
    chat.type("\x04")
    assert chat.process.wait(timeout=20) == 0
