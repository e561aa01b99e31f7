"""`mxgpt plan`: its prediction matches the memory of a run, and a budget that is too small is refused with figures.
Peaks are resident set sizes (including pages of the mapped file) of a run that fills its context."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from program import MXGPT, NANO, REPO, mxgpt

NANO_BYTES = sum(f.stat().st_size for f in NANO.glob("*.safetensors") if "reference" not in f.name)


def plan(*args, status=0):
    return mxgpt("plan", *args, status=status)


def planned(*args):
    return json.loads(plan("--json", *args).stdout)


# Runs a command and prints its peak memory in KiB. A process of its own, as a child's ru_maxrss starts at its parent's.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_memory(prompt, *args):
    """Peak resident set size of a run, in bytes."""
    command = [MXGPT, "run", "--raw", "--max-tokens", "1", *map(str, args)]
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], input=prompt.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return int(done.stdout) * 1024


def prompt_of(tokens):
    """A text of exactly this many tokens of the nano model's tokenizer, which synthetic models share."""
    text = "".join(path.read_text("utf-8") for path in sorted(REPO.glob("**/*.md")) if "build" not in path.parts)
    ids = json.loads(mxgpt("tokenize", "--tokenizer", NANO, "--jsonl", stdin=json.dumps(text) + "\n").stdout)
    while len(ids) < tokens:
        ids += ids
    return json.loads(mxgpt("detokenize", "--tokenizer", NANO, "--jsonl", stdin=json.dumps(ids[:tokens]) + "\n").stdout)


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """A model of about 300 MB in the shape of gpt-oss, with many key/value heads."""
    folder = tmp_path_factory.mktemp("larger")
    config = json.loads((NANO / "config.json").read_text())
    config |= {
        "hidden_size": 512,
        "intermediate_size": 512,
        "num_hidden_layers": 8,
        "num_local_experts": 64,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "num_experts_per_tok": 2,
        "experts_per_token": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 4,
    }
    (folder / "config.json").write_text(json.dumps(config))
    path = folder / "larger.gguf"
    mxgpt("synth", "--like", folder, path)
    assert 2e8 < path.stat().st_size < 4e8
    return path


@pytest.mark.parametrize("kv, load", [("f16", []), ("q8_0", []), ("f16", ["--no-mmap"])])
def test_peak_of_a_larger_model(larger, kv, load):
    context = 1536
    options = ["--model", larger, "--ctx", context, "--kv", kv, *load]
    said = planned(*options)
    assert said["own_weights" if load else "mapped_weights"] > 0.97 * (said["own_weights"] + said["mapped_weights"])
    peak = peak_memory(prompt_of(context - 16), *options)
    assert abs(peak / said["total"] - 1) < 0.03, (peak, said)


@pytest.mark.parametrize("kv", ["f16", "q8_0"])
def test_peak_of_a_checkpoint_with_a_long_context(kv):
    context = 8192
    said = planned("--ctx", context, "--kv", kv)
    assert said["own_weights"] > 0 and said["mapped_weights"] > 0
    peak = peak_memory(prompt_of(context - 64), "--ctx", context, "--kv", kv)
    assert abs(peak / said["total"] - 1) < 0.03, (peak, said)


def test_parts():
    said = planned("--ctx", 4096)
    parts = {w["part"]: w for w in said["weights"]}
    assert list(parts) == ["embedding", "attention", "experts", "head", "norms, biases, routers"]
    assert parts["embedding"]["mapped"] == parts["head"]["mapped"] == 8064 * 288 * 2
    # 12 experts of three matrices in 6 layers, at 4.25 bits, repacked.
    assert parts["experts"] == {"part": "experts", "tensors": 18, "mapped": 0, "own": 6 * 12 * 3 * 288 * 288 * 17 // 32}
    # 3 layers, 2 heads, keys and values, 64 numbers of 2 bytes.
    assert said["kv"]["full"] == {"layers": 3, "bytes_per_token": 1536, "tokens": 4096, "bytes": 1536 * 4096}
    assert said["kv"]["sliding"]["tokens"] < 4096
    assert said["total"] == (
        said["mapped_weights"]
        + said["own_weights"]
        + said["workspace"]
        + said["program"]
        + said["kv"]["full"]["bytes"]
        + said["kv"]["sliding"]["bytes"]
    )
    assert planned("--ctx", 4096, "--kv", "q8_0")["kv"]["full"]["bytes_per_token"] == 1536 * 17 // 32


def test_many_sequences():
    one, four = planned("--ctx", 4096, "--parallel", 1), planned("--ctx", 4096, "--parallel", 4)
    assert four["kv"]["full"]["tokens"] == 4 * one["kv"]["full"]["tokens"] == 4 * 4096
    assert four["kv"]["sliding"]["bytes"] > one["kv"]["sliding"]["bytes"]


def test_for_people():
    text = plan("--ctx", 4096).stdout
    assert re.search(r"^weights +embedding +4\.6 MB  mapped$", text, re.MULTILINE)
    assert re.search(r"^KV cache +3 full layers, F16 +6\.3 MB  1536 bytes per token, 4096 tokens$", text, re.MULTILINE)
    assert re.search(r"^total .* GiB$", text, re.MULTILINE)


def test_budget():
    total = planned("--ctx", 131072)["total"]
    assert planned("--ctx", 131072, "--budget", f"{total}")["fits"]
    done = plan("--ctx", 131072, "--budget", "240MB", status=1)
    assert "total" in done.stdout
    found = re.search(
        r"^mxgpt: --memory-budget: .* MB \(.*GiB\) needed, (.*) MB more than 240\.0 MB \(0\.22 GiB\); "
        r"these settings fit: --kv q8_0 \((.*) MB\), or --ctx (\d+)$",
        done.stderr,
    )
    assert found, done.stderr
    assert abs(float(found[1]) - (total / 1e6 - 240)) < 0.2
    # The suggested settings fit; a longer context does not.
    assert planned("--ctx", 131072, "--kv", "q8_0", "--budget", "240MB")["fits"]
    assert planned("--ctx", found[3], "--budget", "240MB")["fits"]
    assert not json.loads(plan("--json", "--ctx", int(found[3]) + 256, "--budget", "240MB", status=1).stdout)["fits"]
    assert "use a smaller model" in plan("--budget", "1MB", status=1).stderr


@pytest.mark.parametrize("text", ["", "x", "-1GB", "1QB", "0", "nan", "1e30", "1GBB"])
def test_odd_budgets(text):
    assert "is not a valid memory size" in plan("--budget", text, status=2).stderr


def test_other_errors():
    assert "131072 tokens" in plan("--ctx", 1 << 20, status=1).stderr
    assert "model not found" in plan("--model", "/nowhere", status=1).stderr


def hollow_gpt_oss(path, layers, experts):
    """A sparse file with gpt-oss's shapes and formats; a plan does not read weights."""
    import gguf  # pylint: disable=import-outside-toplevel

    writer = gguf.GGUFWriter(path, "gpt-oss")
    writer.add_block_count(layers)
    writer.add_context_length(131072)
    writer.add_embedding_length(2880)
    writer.add_feed_forward_length(2880)
    writer.add_expert_feed_forward_length(2880)
    writer.add_vocab_size(201088)
    writer.add_head_count(64)
    writer.add_head_count_kv(8)
    writer.add_key_length(64)
    writer.add_value_length(64)
    writer.add_sliding_window(128)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(64)
    writer.add_rope_freq_base(150000.0)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(32.0)
    writer.add_rope_scaling_orig_ctx_len(4096)
    writer.add_expert_count(experts)
    writer.add_expert_used_count(4)
    f32, q8_0, mxfp4 = (gguf.GGMLQuantizationType[t] for t in ("F32", "Q8_0", "MXFP4"))
    rows = {"attn_q": 4096, "attn_k": 512, "attn_v": 512, "attn_output": 2880}
    tensors = {
        "token_embd.weight": ((201088, 2880), q8_0),
        "output.weight": ((201088, 2880), q8_0),
        "output_norm.weight": ((2880,), f32),
    }
    for layer in (f"blk.{i}." for i in range(layers)):
        for name in ("attn_norm", "post_attention_norm"):
            tensors[f"{layer}{name}.weight"] = (2880,), f32
        tensors[layer + "attn_sinks.weight"] = (64,), f32
        for name, count in rows.items():
            tensors[f"{layer}{name}.weight"] = (count, 4096 if name == "attn_output" else 2880), q8_0
            tensors[f"{layer}{name}.bias"] = (count,), f32
        tensors[layer + "ffn_gate_inp.weight"] = (experts, 2880), f32
        tensors[layer + "ffn_gate_inp.bias"] = (experts,), f32
        for name in ("gate", "up", "down"):
            tensors[f"{layer}ffn_{name}_exps.weight"] = (experts, 2880, 2880), mxfp4
            tensors[f"{layer}ffn_{name}_exps.bias"] = (experts, 2880), f32
    total = 0
    for name, (shape, kind) in tensors.items():
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        count = 1
        for size in shape:
            count *= size
        size = count // block * block_bytes
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size, kind)
        total += (size + 31) // 32 * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, os.path.getsize(path) + 31 + total)
    return path


def plan_on_gpu(*args):
    said = planned("--device", "cuda", *args)
    assert said["device"] == "cuda"
    assert said["total"] == sum(said[part] for part in ("weights", "kv", "workspace", "cuda"))
    return said


def test_gpt_oss_20b_and_4_gib_of_cache_stay_1_gib_below_24(tmp_path):
    model = hollow_gpt_oss(tmp_path / "20b.gguf", layers=24, experts=32)
    said = plan_on_gpu("--model", model, "--parallel", 2, "--ctx", 77824, "--budget", "24GiB")
    assert said["fits"]
    assert said["kv"] >= 4 << 30
    assert said["total"] <= 23 << 30
    # The file's weights, and tiles filled up to whole chunks: 3 % of the experts' and less of the others'.
    assert 1.0 <= said["weights"] / model.stat().st_size < 1.06
    assert not json.loads(plan("--device", "cuda", "--json", "--model", model, "--budget", "12GiB", status=1).stdout)[
        "fits"
    ]


def test_gpt_oss_120b_takes_a_gpu_of_80_gb(tmp_path):
    model = hollow_gpt_oss(tmp_path / "120b.gguf", layers=36, experts=128)
    assert plan_on_gpu("--model", model, "--ctx", 32768, "--budget", "72GiB")["fits"]


def test_plans_for_a_gpu():
    said = plan_on_gpu()
    assert said["weights"] > NANO_BYTES and said["kv"] > 0
    longer, exact = plan_on_gpu("--ctx", 65536), plan_on_gpu("--precision", "exact")
    assert longer["kv"] > 1.5 * said["kv"] and longer["weights"] == said["weights"]
    assert exact["kv"] == 2 * said["kv"]


def test_locking_beyond_the_limit():
    if os.geteuid() == 0:
        pytest.skip("root may lock what it likes")
    import resource

    done = mxgpt(
        "run",
        "--lock",
        "--max-tokens",
        "1",
        "hello",
        status=1,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096)),
    )
    assert re.search(
        r"mxgpt: --mlock: cannot lock 0\.0\d+ GB of weights in memory: .*RLIMIT_MEMLOCK is 0\.000 GB", done.stderr
    )


@pytest.mark.parametrize("load", [["--lock"], ["--no-mmap"], ["--no-mmap", "--lock"]])
def test_the_answer_does_not_depend_on_how_weights_come_into_memory(load):
    command = ["run", "--temperature", "0", "--max-tokens", "48", "What is 2 + 3?"]
    expected = mxgpt(*command).stdout
    assert expected.strip()
    done = mxgpt(*command, *load, status=None)
    if "RLIMIT_MEMLOCK" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout == expected
