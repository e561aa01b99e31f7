"""`mxgpt quantize` and `mxgpt synth`: files as the `gguf` package reads them, tensor types, and errors."""

import ctypes
import json
import signal
import subprocess
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import xllamacpp
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize
from program import FIXTURES, MXGPT, NANO
from program import output_of as mxgpt
from safetensors.numpy import load_file

LAYERS = 6


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def types(path):
    return {name: t.tensor_type.name for name, t in tensors(path).items()}


def values(tensor):
    return dequantize(tensor.data, tensor.tensor_type).reshape(-1)


def metadata(path, key):
    return gguf.GGUFReader(path).get_field(key).contents()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The shipped model in f32, which represents its MXFP4 and bf16 weights exactly."""
    path = tmp_path_factory.mktemp("source") / "f32.gguf"
    mxgpt("quantize", NANO, path, "--to", "f32")
    return path


# A tensor of the shipped model for each format: rows of 512 where blocks have 256 elements. And the greatest part of
# the sum of squares that the error may be, from the errors of ggml's own quantizers on such weights.
EACH_FORMAT = {
    "Q2_K": ("blk.0.attn_output.weight", 0.09),
    "Q3_K": ("blk.1.attn_output.weight", 0.025),
    "Q4_K": ("blk.2.attn_output.weight", 0.0055),
    "Q5_K": ("blk.3.attn_output.weight", 0.0014),
    "Q6_K": ("blk.4.attn_output.weight", 0.0004),
    "IQ4_XS": ("blk.5.attn_output.weight", 0.0065),
    "Q4_0": ("blk.0.attn_q.weight", 0.0085),
    "Q4_1": ("blk.1.attn_q.weight", 0.0085),
    "Q5_0": ("blk.2.attn_q.weight", 0.0021),
    "Q5_1": ("blk.3.attn_q.weight", 0.0019),
    "Q8_0": ("blk.4.attn_q.weight", 5e-5),
    "IQ4_NL": ("blk.5.attn_q.weight", 0.0065),
    "MXFP4": ("blk.0.attn_k.weight", 0.017),
    "F16": ("blk.1.attn_k.weight", 1e-7),
    "BF16": ("blk.2.attn_k.weight", 0),
    "F32": ("blk.3.attn_k.weight", 0),
}


def quantize_each_format(source, path, *options):
    overrides = [f"--tensor={name}={kind}" for kind, (name, _) in EACH_FORMAT.items()]
    mxgpt("quantize", source, path, "--to", "bf16", *overrides, *options)
    return tensors(path)


def errors(found, source):
    before = tensors(source)
    return {
        kind: np.square(values(found[name]) - values(before[name])).sum() / np.square(values(before[name])).sum()
        for kind, (name, _) in EACH_FORMAT.items()
    }


def test_each_format(source, tmp_path):
    """The gguf package reads the same values as mxgpt, close to the original weights."""
    found = quantize_each_format(source, tmp_path / "each.gguf")
    for kind, error in errors(found, source).items():
        name, bound = EACH_FORMAT[kind]
        assert found[name].tensor_type.name == kind
        assert error <= bound, kind
    mxgpt("quantize", tmp_path / "each.gguf", tmp_path / "back.gguf", "--to", "f32")
    back = tensors(tmp_path / "back.gguf")
    for name, tensor in found.items():
        np.testing.assert_array_equal(values(tensor), back[name].data.reshape(-1), name)


def test_errors_are_not_above_those_of_ggml(source, tmp_path):
    """ggml's quantizers, from the library in the xllamacpp package."""
    library = ctypes.CDLL(next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        *[ctypes.c_int64] * 3,
        ctypes.c_void_p,
    ]
    ours = errors(quantize_each_format(source, tmp_path / "each.gguf"), source)
    before = tensors(source)
    for kind, (name, _) in EACH_FORMAT.items():
        weights = np.ascontiguousarray(before[name].data)
        per_block, block_bytes = gguf.GGML_QUANT_SIZES[Type[kind]]
        blocks = np.zeros((len(weights), weights.shape[1] // per_block * block_bytes), np.uint8)
        written = (
            library.ggml_quantize_chunk(Type[kind], weights.ctypes.data, blocks.ctypes.data, 0, *weights.shape, None)
            if kind != "F32"
            else 0
        )
        theirs = np.square(dequantize(blocks, Type[kind]) - weights).sum() / np.square(weights).sum() if written else 0
        assert ours[kind] <= 1.01 * theirs, kind


def test_scale_search_lowers_the_error(source, tmp_path):
    usual = errors(quantize_each_format(source, tmp_path / "usual.gguf"), source)
    searched = errors(quantize_each_format(source, tmp_path / "searched.gguf", "--scale-search"), source)
    for kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4"):
        assert searched[kind] < 0.97 * usual[kind], kind
    assert all(searched[kind] <= 1.001 * usual[kind] for kind in usual)


# --- The type of each tensor ---


def expected_types(dense, experts, embedding, head, values=None, more_bits=()):
    """Types for the shipped model: rows have 288 columns, except attn_output with 512 (`dense[1]`)."""
    expected = {"token_embd.weight": embedding, "output.weight": head, "output_norm.weight": "F32"}
    for i in range(LAYERS):
        for part in ("gate", "up", "down"):
            expected[f"blk.{i}.ffn_{part}_exps.weight"] = experts
            expected[f"blk.{i}.ffn_{part}_exps.bias"] = "F32"
        for part in ("q", "k", "v", "output"):
            expected[f"blk.{i}.attn_{part}.weight"] = dense[part == "output"]
            expected[f"blk.{i}.attn_{part}.bias"] = "F32"
        if i in more_bits:
            expected[f"blk.{i}.attn_v.weight"] = values
        for name in (
            "attn_norm.weight",
            "post_attention_norm.weight",
            "attn_sinks.weight",
            "ffn_gate_inp.weight",
            "ffn_gate_inp.bias",
        ):
            expected[f"blk.{i}.{name}"] = "F32"
    return expected


RECIPES = {  # name: (general.file_type, types); `experts` stay MXFP4 if the recipe would enlarge them
    "mxfp4-moe": (38, expected_types(["Q8_0", "Q8_0"], "MXFP4", "Q8_0", "Q8_0")),
    "mxfp4-all": (38, expected_types(["MXFP4", "MXFP4"], "MXFP4", "MXFP4", "MXFP4")),
    "q8_0": (7, expected_types(["Q8_0", "Q8_0"], "MXFP4", "Q8_0", "Q8_0")),
    "q4_k_m": (15, expected_types(["Q5_0", "Q4_K"], "MXFP4", "Q5_0", "Q8_0", "Q8_0", (2, 5))),
    "q5_k_m": (17, expected_types(["Q5_1", "Q5_K"], "MXFP4", "Q5_1", "Q8_0", "Q8_0", (2, 5))),
    "q6_k": (18, expected_types(["Q8_0", "Q6_K"], "MXFP4", "Q8_0", "Q8_0")),
    "q3_k": (11, expected_types(["Q4_0", "Q3_K"], "MXFP4", "Q4_0", "Q8_0")),
    "q4_0": (2, expected_types(["Q4_0", "Q4_0"], "MXFP4", "Q4_0", "Q8_0")),
    "iq4_xs": (30, expected_types(["IQ4_NL", "IQ4_XS"], "MXFP4", "IQ4_NL", "Q8_0")),
    "bf16": (32, expected_types(["BF16", "BF16"], "BF16", "BF16", "BF16")),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe(tmp_path, recipe):
    path = tmp_path / "out.gguf"
    mxgpt("quantize", NANO, path, "--to", recipe.upper())  # case is ignored
    file_type, expected = RECIPES[recipe]
    assert types(path) == expected
    assert metadata(path, "general.file_type") == file_type


def test_unquantized_experts_fall_back(source, tmp_path):
    path = tmp_path / "out.gguf"
    text = mxgpt("quantize", source, path, "--to", "q4_k_m")
    found = types(path)
    assert {name: found[name] for name in found if "_exps.weight" in name} == {
        f"blk.{i}.ffn_{part}_exps.weight": "Q8_0" if part == "down" and i in (2, 5) else "Q5_0"
        for i in range(LAYERS)
        for part in ("gate", "up", "down")
    }
    assert (
        "Q5_0 instead of Q4_K (row length is not a multiple of 256): token_embd.weight, blk.*.attn_q.weight, "
        "blk.*.attn_k.weight, blk.*.attn_v.weight (4 of 6 layers), blk.*.ffn_gate_exps.weight, "
        "blk.*.ffn_up_exps.weight, blk.*.ffn_down_exps.weight (4 of 6 layers)\n"
    ) in text
    assert "Q8_0 instead of Q6_K (row length is not a multiple of 256): output.weight, " in text


SHAPE = {
    "model_type": "gpt_oss",
    "vocab_size": 8064,
    "hidden_size": 256,
    "num_hidden_layers": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "intermediate_size": 256,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 4096,
    "sliding_window": 128,
}


@pytest.mark.parametrize("recipe, base, more", [("q4_k_m", "Q4_K", "Q6_K"), ("q5_k_m", "Q5_K", "Q6_K")])
@pytest.mark.parametrize("experts", [4, 8])
def test_mixtures_where_rows_divide(tmp_path, recipe, base, more, experts):
    (tmp_path / "config.json").write_text(json.dumps({**SHAPE, "num_local_experts": experts}))
    path = tmp_path / "out.gguf"
    mxgpt("synth", "--like", tmp_path, path, "--recipe", recipe)
    found = types(path)
    assert (found["token_embd.weight"], found["output.weight"]) == (base, "Q6_K")
    for i in range(16):
        sensitive = more if i in (0, 1, 4, 7, 10, 13, 14, 15) else base
        assert found[f"blk.{i}.ffn_down_exps.weight"] == sensitive
        assert found[f"blk.{i}.ffn_up_exps.weight"] == base
        assert found[f"blk.{i}.attn_q.weight"] == base
        assert found[f"blk.{i}.attn_v.weight"] == ("Q8_0" if experts == 8 else sensitive)
        assert found[f"blk.{i}.attn_k.weight"] == ("Q8_0" if experts == 8 else base)
        assert found[f"blk.{i}.attn_output.weight"] == ("Q5_K" if experts == 8 else base)


def test_tied_head_and_fused_attention(tmp_path):
    """The same types as llama.cpp gives GPT-2."""
    mxgpt("quantize", FIXTURES / "gpt2-nano", tmp_path / "out.gguf", "--to", "q4_k_m")
    found = types(tmp_path / "out.gguf")
    assert (found["token_embd.weight"], found["position_embd.weight"]) == ("Q6_K", "F32")
    assert "output.weight" not in found
    for i in range(6):
        assert found[f"blk.{i}.attn_qkv.weight"] == ("Q6_K" if i in (2, 5) else "Q4_K")
        assert found[f"blk.{i}.ffn_down.weight"] == ("Q6_K" if i in (2, 5) else "Q4_K")
        assert {found[f"blk.{i}.{name}.weight"] for name in ("attn_output", "ffn_up")} == {"Q4_K"}


@pytest.mark.parametrize("name", ["mistral-window", "qwen2", "qwen3", "phi3", "gemma3", "llama3-rope"])
def test_mxfp4_all_in_other_architectures(tmp_path, name):
    mxgpt("quantize", FIXTURES / "architectures" / name, tmp_path / "out.gguf", "--to", "mxfp4-all")
    found = tensors(tmp_path / "out.gguf")
    assert {n: t.tensor_type.name for n, t in found.items()} == {
        n: "F32" if len(t.shape) == 1 else "MXFP4" for n, t in found.items()
    }
    (tmp_path / "ids.json").write_text(json.dumps([list(range(5, 60))]))
    mxgpt("logits", "-m", tmp_path / "out.gguf", "--ids", tmp_path / "ids.json", "--out", tmp_path / "l")


def test_quantized_experts_are_unchanged(source, tmp_path):
    mxgpt("quantize", NANO, tmp_path / "a.gguf", "--to", "q4_k_m")
    mxgpt("quantize", tmp_path / "a.gguf", tmp_path / "b.gguf", "--to", "mxfp4-moe")
    before, after, exact = (tensors(p) for p in (tmp_path / "a.gguf", tmp_path / "b.gguf", source))
    for name in before:
        if "_exps.weight" in name:
            assert before[name].data.tobytes() == after[name].data.tobytes()
            np.testing.assert_array_equal(values(before[name]), values(exact[name]))
    # Q5_0 stays: Q8_0 would not improve it. The head was Q8_0 already.
    assert after["token_embd.weight"].tensor_type == Type.Q5_0
    text = mxgpt("quantize", tmp_path / "a.gguf", tmp_path / "c.gguf", "--to", "mxfp4-all")
    assert "Requantized; quantizing the original model would be more accurate: token_embd.weight" in text


# --- Overrides ---


def test_overrides(source, tmp_path):
    path = tmp_path / "out.gguf"
    mxgpt(
        "quantize",
        NANO,
        path,
        "--to",
        "q8_0",
        "--tensor",
        "blk.1.attn_?.weight=Q4_0",
        "--tensor=blk.*.attn_*=bf16",
        "--tensor=*_exps*=q3_k",
        "--tensor=*gate_inp*=f16",
    )
    found = types(path)
    for i in range(LAYERS):
        assert found[f"blk.{i}.attn_v.weight"] == ("Q4_0" if i == 1 else "BF16")
        assert found[f"blk.{i}.attn_output.weight"] == "BF16"
        assert found[f"blk.{i}.attn_v.bias"] == "F32"
        assert found[f"blk.{i}.ffn_up_exps.weight"] == "Q4_0"  # the rows do not fit Q3_K
        assert found[f"blk.{i}.ffn_gate_inp.weight"] == "F16"
    assert found["output.weight"] == "Q8_0"


@pytest.mark.parametrize(
    "override, message",
    [
        ("blk.9.*=q8_0", "'blk.9.*' matches no weight of the model"),
        ("*norm*=q8_0", "norms and biases are always f32"),
        ("*attn_q*=q4_9", "unknown format 'q4_9'"),
        ("*attn_q*", "is not PATTERN=FORMAT"),
        ("=q8_0", "is not PATTERN=FORMAT"),
        ("*" * 5000 + "x=q8_0", "matches no weight"),
    ],
)
def test_refuses_overrides(tmp_path, override, message):
    assert message in refused(NANO, tmp_path / "out.gguf", "--to", "q8_0", "--tensor", override)


# --- Refusals and interruptions ---


def refused(source, destination, *args):
    """The error message; checks that nothing was written."""
    before = sorted(destination.parent.iterdir())
    message = mxgpt("quantize", source, destination, *args, status=1)
    assert sorted(destination.parent.iterdir()) == before
    assert message.startswith("mxgpt: ") and message.count("\n") == 1, message
    return message


def test_refuses_sources(source, tmp_path):
    out = tmp_path / "out.gguf"
    assert "unknown recipe" in refused(NANO, out, "--to", "q4_k_x")
    assert "file not found" in refused(tmp_path / "nothing", out, "--to", "q8_0")
    (tmp_path / "text").write_text("hello")
    assert "GGUF" in refused(tmp_path / "text", out, "--to", "q8_0")
    whole = source.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    assert "cut.gguf" in refused(tmp_path / "cut.gguf", out, "--to", "q8_0")
    (tmp_path / "renamed.gguf").write_bytes(whole.replace(b"blk.3.attn_sinks", b"blk.3.attn_sinkz"))
    assert "'blk.3.attn_sinks.weight' is missing" in refused(tmp_path / "renamed.gguf", out, "--to", "q8_0")
    assert "is the source file itself" in refused(source, source, "--to", "q8_0", "--force")
    out.write_text("precious")
    assert "--force" in refused(NANO, out, "--to", "q8_0")


@pytest.mark.parametrize("command", ["quantize", "synth"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_write_leaves_nothing(source, tmp_path, command, number):
    out = tmp_path / "out.gguf"
    arguments = (
        [source, out, "--to", "iq4_nl"] if command == "quantize" else ["--like", "gpt-oss-20b", out, "--layers", "8"]
    )
    running = subprocess.Popen(
        [MXGPT, command, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while running.poll() is None and not list(tmp_path.glob("*.part")):
        time.sleep(0.001)
    running.send_signal(number)
    _, message = running.communicate(timeout=60)
    assert (running.returncode, message.decode()) == (128 + number, "mxgpt: interrupted; nothing was written\n")
    assert not list(tmp_path.iterdir())


# --- Random models ---


def test_synth(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        mxgpt("synth", "--like", "gpt-oss-nano", tmp_path / f"{name}.gguf", "--seed", seed, "--layers", 4)
    a, b, c = ((tmp_path / f"{name}.gguf").read_bytes() for name in "abc")
    assert a == b and a != c and len(a) == len(c)
    found = tensors(tmp_path / "a.gguf")
    assert sum("attn_norm" in name for name in found) == 4
    assert np.std(values(found["blk.3.ffn_up_exps.weight"])) == pytest.approx(288**-0.5, rel=0.05)
    (tmp_path / "ids.json").write_text(json.dumps([list(range(5, 200))]))
    mxgpt("logits", "-m", tmp_path / "a.gguf", "--ids", tmp_path / "ids.json", "--out", tmp_path / "l", "--full")
    logits = load_file(tmp_path / "l")["0.logits"]
    assert np.isfinite(logits).all() and np.std(logits) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("shape", ["gpt2", "smollm2-135m", "qwen3-0.6b", "phi-3.5-mini", "gemma3-270m"])
def test_synth_of_other_architectures(tmp_path, shape):
    """Tied and untied output heads."""
    mxgpt("synth", "--like", shape, tmp_path / "out.gguf", "--layers", 2, "--recipe", "mxfp4-all")
    (tmp_path / "ids.json").write_text(json.dumps([list(range(5, 30))]))
    mxgpt("logits", "-m", tmp_path / "out.gguf", "--ids", tmp_path / "ids.json", "--out", tmp_path / "l")
    assert np.std(load_file(tmp_path / "l")["0.last_logits"]) == pytest.approx(2, rel=0.15)


def test_synth_has_the_real_tokenizer(tmp_path):
    path = tmp_path / "out.gguf"
    mxgpt("synth", "--like", "gpt-oss-20b", path, "--layers", 1, "--recipe", "mxfp4-all")
    found = json.loads(mxgpt("inspect", path, "--json"))
    shapes = {t["name"]: t["shape"] for t in found["tensors"]}
    assert shapes["blk.0.ffn_gate_exps.weight"] == [32, 2880, 2880]
    assert shapes["blk.0.attn_q.weight"] == [4096, 2880]
    text = mxgpt("tokenize", "--tokenizer", path, "--jsonl", stdin='"<|return|> naive"\n')
    assert json.loads(text)[0] == 200_002


def test_synth_refuses(tmp_path):
    out = tmp_path / "out.gguf"
    assert "neither a known shape nor a checkpoint" in mxgpt("synth", "--like", "gpt-9", out, status=1)
    (tmp_path / "config.json").write_text(json.dumps({**SHAPE, "num_key_value_heads": 3}))
    assert "cannot share 3 key/value heads" in mxgpt("synth", "--like", tmp_path, out, status=1)
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                **SHAPE,
                "num_local_experts": 4096,
                "hidden_size": 1 << 20,
                "intermediate_size": 1 << 22,
                "num_hidden_layers": 4096,
            }
        )
    )
    assert "are free on its disk" in mxgpt("synth", "--like", tmp_path, out, status=1)
    (tmp_path / "config.json").write_text(json.dumps({**SHAPE, "vocab_size": 100}))
    assert "the embedding has only 100" in mxgpt("synth", "--like", tmp_path, out, status=1)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
