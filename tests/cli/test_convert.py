"""`mxgpt convert` against the `gguf` package, numpy and the `tokenizers` package."""

import hashlib
import json
import os
import resource
import shutil
import struct

import gguf
import numpy as np
import pytest
import tokenizers
from gguf import GGMLQuantizationType as Type
from program import EVAL_TEXT, FIXTURES, NANO, mxgpt
from safetensors.numpy import load_file

REAL_TOKENIZER = FIXTURES / "gpt-oss-tokenizer"
DENSE = ["bf16", "f16", "f32", "q8_0"]


def convert(source, destination, *args):
    mxgpt("convert", source, destination, *args)
    return gguf.GGUFReader(destination)


def refused(source, destination, *args, **options):
    """The error message; checks that nothing was written."""
    before = sorted(destination.parent.iterdir()) if destination.parent.exists() else None
    message = mxgpt("convert", source, destination, *args, status=1, **options).stderr
    if before is not None:
        assert sorted(destination.parent.iterdir()) == before
    assert message.startswith("mxgpt: ") and message.count("\n") == 1, message
    return message


def read_checkpoint(directory):
    """{name: (type, shape, bytes)}. Reads the file by hand, because numpy has no bf16."""
    data = (directory / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    begin = 8 + size
    return {
        name: (t["dtype"], t["shape"], data[begin + t["data_offsets"][0] : begin + t["data_offsets"][1]])
        for name, t in header.items()
    }


def write_checkpoint(directory, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(
        struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())
    )


def from_bf16(data, shape):
    return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)


def to_bf16(values):
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16).tobytes()


# GGUF name and kind of the tensors of a layer.
LAYER = {
    "input_layernorm.weight": ("attn_norm.weight", "f32"),
    "self_attn.q_proj.weight": ("attn_q.weight", "dense"),
    "self_attn.q_proj.bias": ("attn_q.bias", "f32"),
    "self_attn.k_proj.weight": ("attn_k.weight", "dense"),
    "self_attn.k_proj.bias": ("attn_k.bias", "f32"),
    "self_attn.v_proj.weight": ("attn_v.weight", "dense"),
    "self_attn.v_proj.bias": ("attn_v.bias", "f32"),
    "self_attn.o_proj.weight": ("attn_output.weight", "dense"),
    "self_attn.o_proj.bias": ("attn_output.bias", "f32"),
    "self_attn.sinks": ("attn_sinks.weight", "f32"),
    "post_attention_layernorm.weight": ("post_attention_norm.weight", "f32"),
    "mlp.router.weight": ("ffn_gate_inp.weight", "f32"),
    "mlp.router.bias": ("ffn_gate_inp.bias", "f32"),
}


def expected_tensors(directory, layers):
    """{GGUF name: (kind, array)}: float32 values, or the bytes of MXFP4 blocks [experts, rows, bytes]."""
    checkpoint = read_checkpoint(directory)

    def values(name):
        dtype, shape, data = checkpoint[name]
        assert dtype == "BF16"
        return from_bf16(data, shape)

    def blocks(name):
        raw = np.frombuffer(checkpoint[name + "_blocks"][2], np.uint8).reshape(checkpoint[name + "_blocks"][1])
        scales = np.frombuffer(checkpoint[name + "_scales"][2], np.uint8).reshape(checkpoint[name + "_scales"][1])
        elements = np.stack([raw & 15, raw >> 4], axis=-1).reshape(*raw.shape[:-1], 32)
        nibbles = elements[..., :16] | elements[..., 16:] << 4
        return np.concatenate([scales[..., None], nibbles], axis=-1).reshape(*raw.shape[:2], -1)

    expected = {
        "token_embd.weight": ("dense", values("model.embed_tokens.weight")),
        "output_norm.weight": ("f32", values("model.norm.weight")),
        "output.weight": ("dense", values("lm_head.weight")),
    }
    for i in range(layers):
        for name, (ours, kind) in LAYER.items():
            expected[f"blk.{i}.{ours}"] = (kind, values(f"model.layers.{i}.{name}"))
        experts = f"model.layers.{i}.mlp.experts."
        quantized = experts + "down_proj_blocks" in checkpoint
        for part in ("gate_up_proj", "down_proj"):
            if quantized:
                weight = blocks(experts + part)
            else:
                weight = np.swapaxes(values(experts + part), 1, 2)
            bias = values(experts + part + "_bias")
            kind = "experts" if quantized else "dense"
            if part == "down_proj":
                expected[f"blk.{i}.ffn_down_exps.weight"] = (kind, weight)
                expected[f"blk.{i}.ffn_down_exps.bias"] = ("f32", bias)
            for offset, name in enumerate(["gate", "up"] if part == "gate_up_proj" else []):
                expected[f"blk.{i}.ffn_{name}_exps.weight"] = (kind, weight[:, offset::2])
                expected[f"blk.{i}.ffn_{name}_exps.bias"] = ("f32", bias[:, offset::2])
    return expected


def check_tensors(reader, expected, dense):
    actual = {t.name: t for t in reader.tensors}
    assert set(actual) == set(expected)
    for name, (kind, array) in expected.items():
        tensor = actual[name]
        if kind == "experts":
            assert tensor.tensor_type == Type.MXFP4, name
            assert [int(n) for n in reversed(tensor.shape)] == [*array.shape[:-1], array.shape[-1] // 17 * 32], name
            assert tensor.data.tobytes() == array.tobytes(), name
            continue
        kind = "f32" if kind == "f32" else dense
        if kind == "q8_0" and array.shape[-1] % 32:
            kind = "bf16"
        assert tensor.tensor_type.name == kind.upper(), name
        assert [int(n) for n in reversed(tensor.shape)] == list(array.shape), name
        with np.errstate(over="ignore"):
            data = {
                "f32": lambda: np.ascontiguousarray(array).tobytes(),
                "f16": lambda: array.astype(np.float16).tobytes(),
                "bf16": lambda: to_bf16(array),
                "q8_0": lambda: gguf.quants.quantize(np.ascontiguousarray(array), Type.Q8_0).tobytes(),
            }[kind]()
        assert tensor.data.tobytes() == data, name


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    return {
        dense: (folder / f"{dense}.gguf", convert(NANO, folder / f"{dense}.gguf", "--dense", dense)) for dense in DENSE
    }


@pytest.mark.parametrize("dense", DENSE)
def test_tensors(converted, dense):
    check_tensors(converted[dense][1], expected_tensors(NANO, 6), dense)


def contents(reader):
    return {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}


def manifest_sha256(directory):
    paths = sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())
    lines = [f"{hashlib.sha256((directory / p).read_bytes()).hexdigest()}  {p}\n" for p in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_metadata(converted):
    """The keys of ggml-org's gpt-oss files, with the values of config.json."""
    config = json.loads((NANO / "config.json").read_text())
    metadata = contents(converted["bf16"][1])
    model = {k: v for k, v in metadata.items() if not k.startswith("tokenizer.")}
    rope = config["rope_scaling"]
    expected = {
        "general.architecture": "gpt-oss",
        "general.type": "model",
        "general.name": "gpt-oss-nano",
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_MXFP4_MOE),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "gpt-oss.block_count": config["num_hidden_layers"],
        "gpt-oss.context_length": config["max_position_embeddings"],
        "gpt-oss.embedding_length": config["hidden_size"],
        "gpt-oss.feed_forward_length": config["intermediate_size"],
        "gpt-oss.vocab_size": config["vocab_size"],
        "gpt-oss.attention.head_count": config["num_attention_heads"],
        "gpt-oss.attention.head_count_kv": config["num_key_value_heads"],
        "gpt-oss.attention.key_length": config["head_dim"],
        "gpt-oss.attention.value_length": config["head_dim"],
        "gpt-oss.attention.sliding_window": config["sliding_window"],
        "gpt-oss.attention.layer_norm_rms_epsilon": float(np.float32(config["rms_norm_eps"])),
        "gpt-oss.expert_count": config["num_local_experts"],
        "gpt-oss.expert_used_count": config["num_experts_per_tok"],
        "gpt-oss.expert_feed_forward_length": config["intermediate_size"],
        "gpt-oss.rope.dimension_count": config["head_dim"],
        "gpt-oss.rope.freq_base": config["rope_theta"],
        "gpt-oss.rope.scaling.type": "yarn",
        "gpt-oss.rope.scaling.factor": rope["factor"],
        "gpt-oss.rope.scaling.original_context_length": rope["original_max_position_embeddings"],
        "gpt-oss.rope.scaling.yarn_beta_fast": rope["beta_fast"],
        "gpt-oss.rope.scaling.yarn_beta_slow": rope["beta_slow"],
        "mxgpt.source.name": "gpt-oss-nano",
        "mxgpt.source.sha256": manifest_sha256(NANO),
    }
    assert model == expected
    # The package's keys have a placeholder for the architecture.
    known = {
        value.replace("{arch}", "gpt-oss")
        for group in vars(gguf.Keys).values()
        if isinstance(group, type)
        for value in vars(group).values()
        if isinstance(value, str) and "." in value
    }
    assert set(metadata) - known == {"mxgpt.source.name", "mxgpt.source.sha256"}


def test_source_hash_is_what_verify_says(converted):
    manifest = mxgpt("verify", NANO).stdout
    assert contents(converted["bf16"][1])["mxgpt.source.sha256"] == hashlib.sha256(manifest.encode()).hexdigest()


def check_tokenizer(metadata, directory, rows):
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    tokens = [f"[PAD{i}]" for i in range(rows)]
    types = [gguf.TokenType.UNUSED] * rows
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], types[i] = token, gguf.TokenType.NORMAL
    for token in tokenizer["added_tokens"]:
        tokens[token["id"]] = token["content"]
        types[token["id"]] = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
    assert metadata["tokenizer.ggml.model"] == "gpt2"
    assert metadata["tokenizer.ggml.pre"] == "gpt-4o"
    assert metadata["tokenizer.ggml.tokens"] == tokens
    assert metadata["tokenizer.ggml.token_type"] == types
    assert metadata["tokenizer.ggml.merges"] == [" ".join(m) for m in tokenizer["model"]["merges"]]
    assert metadata["tokenizer.ggml.add_bos_token"] is False


def test_tokenizer_metadata(converted):
    metadata = contents(converted["bf16"][1])
    check_tokenizer(metadata, NANO, 8064)
    ids = {key: metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("bos", "eos", "eot", "eom", "padding")}
    assert ids == {"bos": 8000, "eos": 8004, "eot": 8001, "eom": 8014, "padding": 8001}
    assert "tokenizer.chat_template" not in metadata


def tokenize(path, texts, *args):
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    done = mxgpt("tokenize", "--tokenizer", path, "--jsonl", *args, stdin=lines)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_same_ids_from_the_file(converted):
    texts = [json.loads(line)["prompt"] for line in (NANO / "reference-greedy.jsonl").read_text().splitlines()]
    texts += [json.loads(line)["text"] for line in EVAL_TEXT.read_text().splitlines()]
    texts += ["", " ", "don't DON'T\r\n\n  x", "naïve 日本語 𝒳 👩‍👩‍👧", "1234567", "[PAD8050]<|end|><|reserved_8002|>"]
    reference = tokenizers.Tokenizer.from_file(str(NANO / "tokenizer.json"))
    expected = [reference.encode(text, add_special_tokens=False).ids for text in texts]
    path = converted["bf16"][0]
    assert tokenize(path, texts) == expected
    assert tokenize(path, texts, "--plain") == tokenize(NANO, texts, "--plain")


@pytest.fixture(scope="session")
def sequences(tmp_path_factory):
    lines = (NANO / "reference-greedy.jsonl").read_text().splitlines()[:4]
    ids = [(r["prompt_ids"] + r["output_ids"])[:250] for r in map(json.loads, lines)]
    path = tmp_path_factory.mktemp("ids") / "ids.json"
    path.write_text(json.dumps(ids))
    return path


def logits(model, sequences, out):
    mxgpt("logits", "--model", model, "--ids", sequences, "--out", out, "--precision", "exact", "--full")
    return {name: tensor for name, tensor in load_file(out).items() if name.endswith(".logits")}


@pytest.fixture(scope="session")
def checkpoint_logits(sequences, tmp_path_factory):
    return logits(NANO, sequences, tmp_path_factory.mktemp("logits") / "checkpoint")


def log_softmax(x):
    x = x.astype(np.float64) - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("dense", DENSE)
def test_logits(converted, sequences, checkpoint_logits, dense, tmp_path):
    actual = logits(converted[dense][0], sequences, tmp_path / "logits")
    assert set(actual) == set(checkpoint_logits)
    if dense in ("f32", "bf16"):  # lossless for a bf16 checkpoint
        for name, expected in checkpoint_logits.items():
            np.testing.assert_array_equal(actual[name], expected)
        return
    divergence = []
    for name, expected in checkpoint_logits.items():
        p, q = log_softmax(expected), log_softmax(actual[name])
        divergence.append((np.exp(p) * (p - q)).sum(-1))
    mean = np.concatenate(divergence).mean()
    assert 0 < mean < {"f16": 1e-9, "q8_0": 1e-3}[dense]


def test_same_answer_from_the_file(converted):
    question = ["What is the capital of Norway?", "--temperature", "0", "--precision", "exact", "--show-reasoning"]
    expected = mxgpt("run", "--model", NANO, *question).stdout
    assert expected and mxgpt("run", "--model", converted["f32"][0], *question).stdout == expected


def test_from_gguf(converted, tmp_path):
    """A GGUF file keeps its metadata, except for keys that describe the file."""
    source, reader = converted["f32"]
    again = convert(source, tmp_path / "again.gguf", "--dense", "q8_0")
    check_tensors(again, expected_tensors(NANO, 6), "q8_0")
    before, after = contents(reader), contents(again)
    assert after.pop("mxgpt.source.name") == "f32.gguf"
    assert after.pop("mxgpt.source.sha256") == hashlib.sha256(source.read_bytes()).hexdigest()
    assert {k: v for k, v in before.items() if not k.startswith("mxgpt.")} == after


# --- A tiny checkpoint in the layout of bf16 fine-tunes ---

HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM, EXPERTS, VOCABULARY = 48, 64, 4, 2, 16, 4, 320


def byte_level_tokenizer():
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)} | {"Ġa": 256, "he": 257}
    tokenizer = json.loads((NANO / "tokenizer.json").read_text())
    tokenizer["model"] |= {"vocab": vocab, "merges": [["Ġ", "a"], "h e"]}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer["added_tokens"] = [
        {"id": 258, "content": "<|end|>", "special": True, **flags},
        {"id": 259, "content": "<tool>", "special": False, **flags},
    ]
    return tokenizer


@pytest.fixture
def tiny(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    config = json.loads((NANO / "config.json").read_text())
    del config["quantization_config"]
    config |= {
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "num_local_experts": EXPERTS,
        "num_hidden_layers": 2,
        "layer_types": config["layer_types"][:2],
        "vocab_size": VOCABULARY,
        "eos_token_id": 258,
        "pad_token_id": 258,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(byte_level_tokenizer()))
    random = np.random.default_rng(1)
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    layer = {
        "input_layernorm.weight": [HIDDEN],
        "self_attn.q_proj.weight": [q, HIDDEN],
        "self_attn.q_proj.bias": [q],
        "self_attn.k_proj.weight": [kv, HIDDEN],
        "self_attn.k_proj.bias": [kv],
        "self_attn.v_proj.weight": [kv, HIDDEN],
        "self_attn.v_proj.bias": [kv],
        "self_attn.o_proj.weight": [HIDDEN, q],
        "self_attn.o_proj.bias": [HIDDEN],
        "self_attn.sinks": [HEADS],
        "post_attention_layernorm.weight": [HIDDEN],
        "mlp.router.weight": [EXPERTS, HIDDEN],
        "mlp.router.bias": [EXPERTS],
        "mlp.experts.gate_up_proj": [EXPERTS, HIDDEN, 2 * INTERMEDIATE],
        "mlp.experts.gate_up_proj_bias": [EXPERTS, 2 * INTERMEDIATE],
        "mlp.experts.down_proj": [EXPERTS, INTERMEDIATE, HIDDEN],
        "mlp.experts.down_proj_bias": [EXPERTS, HIDDEN],
    }
    shapes = {
        "model.embed_tokens.weight": [VOCABULARY, HIDDEN],
        "model.norm.weight": [HIDDEN],
        "lm_head.weight": [VOCABULARY, HIDDEN],
    }
    shapes |= {f"model.layers.{i}.{name}": shape for i in range(2) for name, shape in layer.items()}
    write_checkpoint(
        folder, {name: ("BF16", shape, to_bf16(random.normal(0, 0.3, shape))) for name, shape in shapes.items()}
    )
    return folder


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_quantized_experts_stay(tiny, tmp_path):
    source = convert(tiny, tmp_path / "q8_0.gguf", "--dense", "q8_0")
    expected = expected_tensors(tiny, 2)
    again = convert(tmp_path / "q8_0.gguf", tmp_path / "f32.gguf", "--dense", "f32")
    before, after = ({t.name: t for t in reader.tensors} for reader in (source, again))
    for name, (kind, array) in expected.items():
        experts = "_exps.weight" in name and array.shape[-1] % 32 == 0
        assert after[name].tensor_type == (Type.Q8_0 if experts else Type.F32), name
        if experts:
            assert after[name].data.tobytes() == before[name].data.tobytes(), name


def test_from_shards(tiny, tmp_path):
    whole = convert(tiny, tmp_path / "whole.gguf")
    shards = tmp_path / "shards"
    shards.mkdir()
    writer = gguf.GGUFWriter(shards / "tiny.gguf", "gpt-oss", split_max_tensors=20)
    for key, field in whole.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            writer.add_key_value(
                key, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None
            )
    for tensor in whole.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    paths = sorted(shards.iterdir())
    assert len(paths) > 1
    joined = convert(paths[1], tmp_path / "joined.gguf")
    check_tensors(joined, expected_tensors(tiny, 2), "bf16")
    metadata = contents(joined)
    assert metadata.pop("mxgpt.source.name") == paths[1].name
    assert metadata.pop("mxgpt.source.sha256") == manifest_sha256(shards)
    assert metadata == {k: v for k, v in contents(whole).items() if not k.startswith("mxgpt.")}
    assert "is the source file itself" in refused(paths[0], paths[1], "--force")


@pytest.mark.parametrize("dense", DENSE)
def test_unquantized_experts(tiny, tmp_path, dense):
    reader = convert(tiny, tmp_path / "tiny.gguf", "--dense", dense)
    check_tensors(reader, expected_tensors(tiny, 2), dense)
    file_type = {"bf16": "MOSTLY_BF16", "f16": "MOSTLY_F16", "f32": "ALL_F32", "q8_0": "MOSTLY_BF16"}[dense]
    assert contents(reader)["general.file_type"] == gguf.LlamaFileType[file_type]


def test_unquantized_experts_run_alike(tiny, tmp_path):
    convert(tiny, tmp_path / "tiny.gguf")
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps([[i * 37 % VOCABULARY for i in range(140)]]))  # past the window
    expected = logits(tiny, ids, tmp_path / "expected")
    np.testing.assert_array_equal(
        logits(tmp_path / "tiny.gguf", ids, tmp_path / "actual")["0.logits"], expected["0.logits"]
    )


def test_fallbacks_are_listed(tiny, tmp_path):
    text = mxgpt("convert", tiny, tmp_path / "tiny.gguf", "--dense", "q8_0").stdout
    assert "BF16 instead of Q8_0 (row length is not a multiple of 32): token_embd.weight, output.weight, " in text


def test_numbers_out_of_range_are_reported(tiny, tmp_path):
    tensors = read_checkpoint(tiny)
    name = "model.layers.1.self_attn.k_proj.weight"
    dtype, shape, data = tensors[name]
    values = from_bf16(data, shape).copy()
    values[3, 4:7] = [1e30, -7e4, np.inf]  # the last one is infinite already
    tensors[name] = (dtype, shape, to_bf16(values))
    write_checkpoint(tiny, tensors)
    done = mxgpt("convert", tiny, tmp_path / "tiny.gguf", "--dense", "f16")
    assert "blk.1.attn_k.weight: 2 values exceed the range of F16" in done.stderr
    check_tensors(gguf.GGUFReader(tmp_path / "tiny.gguf"), expected_tensors(tiny, 2), "f16")
    assert not mxgpt("convert", tiny, tmp_path / "wide.gguf").stderr


def test_tokenizer_of_the_fine_tune(tiny, tmp_path):
    (tiny / "tokenizer_config.json").write_text(
        json.dumps(
            {"bos_token": {"content": "<tool>"}, "chat_template": [{"name": "default", "template": "{{ 'ä' }}"}]}
        )
    )
    (tiny / "generation_config.json").write_text(json.dumps({"eos_token_id": [258, 5, 6, 7]}))
    done = mxgpt("convert", tiny, tmp_path / "tiny.gguf")
    assert "cannot store token 7" in done.stderr
    metadata = contents(gguf.GGUFReader(tmp_path / "tiny.gguf"))
    edit(tiny / "tokenizer.json", lambda t: t["model"].update(merges=[["Ġ", "a"], ["h", "e"]]))
    check_tokenizer(metadata, tiny, VOCABULARY)
    ids = {key: metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("bos", "eos", "eot", "eom", "padding")}
    assert ids == {"bos": 259, "eos": 258, "eot": 5, "eom": 6, "padding": 258}
    assert metadata["tokenizer.chat_template"] == "{{ 'ä' }}"

    (tiny / "chat_template.jinja").write_text("{{ messages }}")
    assert contents(convert(tiny, tmp_path / "file.gguf"))["tokenizer.chat_template"] == "{{ messages }}"


def frame(*parts):
    """A post-processor that adds tokens around a text A."""
    ids = {token: {"id": token, "ids": [259], "tokens": [token]} for token in parts if token != "A"}
    single = [{"Sequence" if part == "A" else "SpecialToken": {"id": part, "type_id": 0}} for part in parts]
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": ids}


def test_a_tokenizer_that_begins_with_bos(tiny, tmp_path):
    (tiny / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<tool>"}))
    edit(tiny / "tokenizer.json", lambda t: t.update(post_processor=frame("<tool>", "A")))
    edit(tiny / "tokenizer.json", lambda t: t["model"].update(merges=[["Ġ", "a"], ["h", "e"]]))
    metadata = contents(convert(tiny, tmp_path / "tiny.gguf"))
    assert (metadata["tokenizer.ggml.add_bos_token"], metadata["tokenizer.ggml.bos_token_id"]) == (True, 259)
    texts = ["he a", ""]
    reference = tokenizers.Tokenizer.from_file(str(tiny / "tokenizer.json"))
    assert tokenize(tmp_path / "tiny.gguf", texts, "--add-special") == [reference.encode(t).ids for t in texts]


def test_nfc_is_left_out_with_a_note(tiny, tmp_path):
    edit(tiny / "tokenizer.json", lambda t: t.update(normalizer={"type": "NFC"}))
    done = mxgpt("convert", tiny, tmp_path / "tiny.gguf")
    assert "cannot store the tokenizer's NFC" in done.stderr
    assert tokenize(tmp_path / "tiny.gguf", ["he ä"]) == tokenize(tiny / "tokenizer.json", ["he ä"])


def grow_vocabulary(directory, rows):
    tensors = read_checkpoint(directory)
    values = np.random.default_rng(2).normal(0, 1, (rows, HIDDEN))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = ("BF16", [rows, HIDDEN], to_bf16(values))
    write_checkpoint(directory, tensors)
    edit(directory / "config.json", lambda c: c.update(vocab_size=rows))


def test_tensors_of_several_pieces(tiny, tmp_path):
    grow_vocabulary(tiny, 100_000)
    _, shape, data = read_checkpoint(tiny)["lm_head.weight"]
    embedding = from_bf16(data, shape).tobytes()
    mxgpt("convert", tiny, tmp_path / "converted.gguf", "--dense", "f32")
    mxgpt("convert", tmp_path / "converted.gguf", tmp_path / "copied.gguf", "--dense", "f32")
    for name in ("converted.gguf", "copied.gguf"):
        assert (tmp_path / name).read_bytes().count(embedding) == 2  # also the output head, which is equal here


def test_real_tokenizer(tiny, tmp_path):
    """gpt-oss's own tokenizer: 201,088 rows, 446,189 merges."""
    grow_vocabulary(tiny, 201_088)
    shutil.copy(REAL_TOKENIZER / "tokenizer.json", tiny)
    shutil.copy(REAL_TOKENIZER / "tokenizer_config.json", tiny)
    path = tmp_path / "real.gguf"
    mxgpt("convert", tiny, path)
    lines = (REAL_TOKENIZER.parent / "harmony-reference.jsonl").read_text().splitlines()[:30]
    texts = lines + ["<|start|>user<|message|>naïve 日本語\r\n\t 12345 don't<|end|>"]
    reference = tokenizers.Tokenizer.from_file(str(REAL_TOKENIZER / "tokenizer.json"))
    assert tokenize(path, texts) == [reference.encode(t, add_special_tokens=False).ids for t in texts]


# --- Refusals ---


def test_refuses_paths(tiny, tmp_path):
    out = tmp_path / "out.gguf"
    assert "file not found" in refused(tmp_path / "nothing", out)
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(tmp_path / "empty", out)
    (tmp_path / "text").write_text("hello")
    assert "GGUF" in refused(tmp_path / "text", out)
    assert "is inside the checkpoint directory" in refused(tiny, tiny / "out.gguf")
    (tmp_path / "link").symlink_to(tiny)
    assert "is inside the checkpoint directory" in refused(tiny, tmp_path / "link" / "out.gguf")
    assert "create its folder first" in refused(tiny, tmp_path / "nowhere" / "out.gguf")
    assert "not a regular file" in refused(tiny, tmp_path / "empty", "--force")


def test_replaces_only_with_force(tiny, tmp_path):
    out = tmp_path / "out.gguf"
    out.write_text("precious")
    assert "--force" in refused(tiny, out)
    assert out.read_text() == "precious"
    convert(tiny, out, "--force")
    os.link(out, tmp_path / "same.gguf")
    assert "is the source file itself" in refused(out, tmp_path / "same.gguf", "--force")


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("config.json", lambda c: c.update(model_type="mamba"), "is 'mamba'; mxgpt runs "),
        ("config.json", lambda c: c.update(hidden_size=64), "the configuration asks for"),
        (
            "config.json",
            lambda c: c.update(num_hidden_layers=3, layer_types=["sliding_attention", "full_attention"] * 2),
            "layer",
        ),
        ("config.json", lambda c: c.update(layer_types=["full_attention"] * 2), "layer_types"),
        ("config.json", lambda c: c["rope_scaling"].update(truncate=True), "rope_scaling.truncate"),
        ("config.json", lambda c: c.update(swiglu_limit=6.5), "swiglu_limit"),
        ("config.json", lambda c: c.update(eos_token_id=VOCABULARY), "320"),
        ("config.json", lambda c: c.update(bos_token_id=VOCABULARY), "bos_token_id"),
        ("tokenizer.json", lambda t: t["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="\\w+"), "\\w+"),
        ("tokenizer.json", lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer"),
        ("tokenizer.json", lambda t: t["pre_tokenizer"]["pretokenizers"].reverse(), "pre_tokenizer"),
        ("tokenizer.json", lambda t: t["pre_tokenizer"]["pretokenizers"][1].update(use_regex=True), "pre_tokenizer"),
        ("tokenizer.json", lambda t: t.update(normalizer={"type": "NFKC"}), "normalizer"),
        ("tokenizer.json", lambda t: t.update(post_processor=frame("<tool>", "A", "<tool>")), "post_processor"),
        ("tokenizer.json", lambda t: t["model"].update(byte_fallback=True), "byte_fallback"),
        ("tokenizer.json", lambda t: t["model"].update(merges=[["a b", "c"]]), "merges"),
        ("tokenizer.json", lambda t: t["added_tokens"][0].update(lstrip=True), "lstrip"),
        (
            "tokenizer.json",
            lambda t: t["added_tokens"].extend({**t["added_tokens"][0], "content": f"<{i}>"} for i in range(61)),
            "the embedding has only 320 rows",
        ),
    ],
)
def test_refuses_what_it_cannot_express(tiny, tmp_path, file, change, message):
    edit(tiny / file, change)
    assert message in refused(tiny, tmp_path / "out.gguf")


def test_refuses_incomplete_checkpoints(tiny, tmp_path):
    out = tmp_path / "out.gguf"
    tensors = read_checkpoint(tiny)
    missing = "model.layers.1.self_attn.sinks"
    write_checkpoint(tiny, {name: tensor for name, tensor in tensors.items() if name != missing})
    assert missing in refused(tiny, out)
    (tiny / "tokenizer.json").unlink()
    write_checkpoint(tiny, tensors)
    assert "a GGUF file needs a tokenizer" in refused(tiny, out)


def test_a_failed_write_leaves_nothing(tmp_path):
    """A file size limit simulates a full disk: both fail in write(2)."""
    limit = 4 << 20
    message = refused(
        NANO,
        tmp_path / "out.gguf",
        restore_signals=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert "out.gguf: cannot be written: File too large" in message


def test_dense_must_be_known(tmp_path):
    message = mxgpt("convert", NANO, tmp_path / "out.gguf", "--dense", "q4_9", status=2).stderr
    assert "--dense" in message
