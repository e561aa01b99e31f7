"""`mxgpt validate` without a text to compare on: --kernels, --self-check and --prompts."""

import json
import shutil

import pytest
from gguf import GGUFReader
from program import FIXTURES, NANO, mxgpt


def validate(*arguments):
    return mxgpt("validate", *arguments, status=None, timeout=600)


def test_kernels(tmp_path):
    result = validate("--kernels", "--json", tmp_path / "kernels.json")
    assert result.returncode == 0, result.stdout
    assert "pass:" in result.stdout.splitlines()[-1]
    report = json.loads((tmp_path / "kernels.json").read_text())
    assert report["passes"] is True
    kernels = {entry["kernel"] for entry in report["kernels"]}
    assert {
        "MXFP4 matmul_int16, f16 sums",
        "Q4_K dequantize",
        "Q8_0 quantize",
        "attention, F16 cache",
        "routing",
        "MXFP4 embedding",
    } <= kernels
    assert all(entry["passes"] and entry["shapes"] > 0 for entry in report["kernels"])


def test_self_checks_of_the_shipped_model(tmp_path):
    result = validate("--self-check", NANO, "--json", tmp_path / "self.json")
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "self.json").read_text())
    assert report["passes"] is True
    assert all(check["passes"] for check in report["checks"])


@pytest.mark.parametrize(
    "name",
    [
        "gpt2-nano",
        "architectures/gemma3",
        "architectures/mistral-window",
        "architectures/qwen3",
        "architectures/gpt-oss-bf16-layout",
    ],
)
def test_self_checks_of_other_architectures(name, tmp_path):
    (tmp_path / "ids.json").write_text(json.dumps([[10 + i * i % 211 for i in range(100)]]))
    model = FIXTURES / name
    result = validate("--self-check", model, "--ids", tmp_path / "ids.json", "--json", tmp_path / "self.json")
    assert result.returncode == 0, result.stdout + result.stderr
    absent = {
        check["check"]
        for check in json.loads((tmp_path / "self.json").read_text())["checks"]
        if "not_applicable" in check
    }
    assert ("permuted experts change nothing" in absent) == ("gpt-oss" not in name)
    assert ("RoPE is invariant to shifts" in absent) == ("gpt2" in name)


def test_self_checks_need_enough_text(tmp_path):
    (tmp_path / "ids.json").write_text("[[1, 2, 3, 4, 5]]")
    result = validate("--self-check", NANO, "--ids", tmp_path / "ids.json")
    assert result.returncode == 1
    assert "self-checks need 40" in result.stderr


@pytest.fixture(scope="module")
def q8_0(tmp_path_factory):
    path = tmp_path_factory.mktemp("divergence") / "nano-q8_0.gguf"
    mxgpt("convert", NANO, path, "--dense", "q8_0")
    return path


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """Line 317 of the skill prompts, which asks for the last word of a list, and the twelve shortest others."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    lines = (NANO / "skills.jsonl").read_text("utf-8").splitlines()
    shortest = sorted((n for n in range(1, 401) if n != 317), key=lambda n: len(lines[n - 1]))[:12]
    path.write_text("".join(lines[n - 1] + "\n" for n in [317, *shortest]))
    return path


def diverge(candidate, prompts, out):
    result = validate(
        "--prompts",
        prompts,
        "--reference",
        NANO,
        "--candidate",
        candidate,
        "--seeds",
        4,
        "--max-completion-tokens",
        40,
        "--json",
        out,
    )
    return result, json.loads(out.read_text())


def test_an_honest_file_is_not_flagged(q8_0, prompts, tmp_path):
    result, report = diverge(q8_0, prompts, tmp_path / "report.json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert report["flagged"] == 0 and len(report["prompts"]) == 13


def test_a_tampered_expert_is_found_by_its_prompt(q8_0, prompts, tmp_path):
    """Scales the down projection of one expert, which few prompts use, by 16."""
    tampered = tmp_path / "tampered.gguf"
    shutil.copy(q8_0, tampered)
    reader = GGUFReader(tampered, "r+")
    tensor = next(t for t in reader.tensors if t.name == "blk.2.ffn_down_exps.weight")
    tensor.data[6].reshape(-1, 17)[:, 0] += 4  # the scale of each MXFP4 block
    reader.data.flush()

    result, report = diverge(tampered, prompts, tmp_path / "report.json")
    assert result.returncode == 1, result.stdout
    flagged = [prompt["line"] for prompt in report["prompts"] if prompt["flagged"]]
    assert flagged == [1], result.stdout
    first = report["prompts"][0]
    assert first["diverged"] > 0 and first["reference"][0] != first["candidate"][0]
    assert "line 1: " in result.stdout and "DIVERGES" in result.stdout


def test_few_prompts_are_inconclusive(q8_0, prompts, tmp_path):
    result = validate(
        "--prompts",
        prompts,
        "--reference",
        NANO,
        "--candidate",
        q8_0,
        "--max-prompts",
        2,
        "--seeds",
        1,
        "--max-completion-tokens",
        4,
    )
    assert result.returncode == 2
    assert "inconclusive" in result.stdout


@pytest.mark.parametrize(
    "content, complaint",
    [
        ("", "has no prompts"),
        ("{}\n", "prompt"),
        ('{"prompt": 5}\n', "should be a string"),
        ('{"prompt": ""}\n', "is empty"),
        ("not json\n", "line 1"),
        ('{"prompt": "' + "word " * 140000 + '"}\n', "context"),
    ],
)
def test_refuses_prompts(content, complaint, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    result = validate("--prompts", path, "--reference", NANO, "--candidate", NANO, "--seeds", 1)
    assert result.returncode == 1
    assert complaint in result.stderr


def test_refuses_missing_things(tmp_path, prompts):
    assert "needs two models" in validate("--prompts", prompts, "--reference", NANO).stderr
    missing = validate("--prompts", prompts, "--reference", NANO, "--candidate", tmp_path / "none.gguf")
    assert missing.returncode == 1 and "model not found" in missing.stderr
    assert (
        "cannot be opened" in validate("--prompts", tmp_path / "none", "--reference", NANO, "--candidate", NANO).stderr
    )
    assert "model not found" in validate("--self-check", tmp_path / "none.gguf").stderr
