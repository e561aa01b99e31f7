"""`mxgpt imatrix` and `quantize --imatrix`: contents of the file, its effect, and hostile files."""

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize
from program import EVAL_TEXT, FIXTURES, NANO
from program import output_of as mxgpt

LAYERS, EXPERTS, TOP_K, HIDDEN = 6, 12, 4, 288


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def values(tensor):
    return dequantize(tensor.data, tensor.tensor_type).astype(np.float64)


def importance(path):
    """{name: mean squares [experts, k]}, 0 for experts without tokens."""
    found = tensors(path)
    means = {}
    for name in found:
        if name.endswith(".in_sum2"):
            counts = found[name.removesuffix(".in_sum2") + ".counts"].data.reshape(-1, 1)
            means[name.removesuffix(".in_sum2")] = found[name].data.reshape(len(counts), -1) / np.maximum(counts, 1)
    return means


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imatrix")
    mxgpt("quantize", NANO, folder / "f32.gguf", "--to", "f32")
    mxgpt("imatrix", "--text", EVAL_TEXT, "--max-tokens", 4000, "-o", folder / "imatrix.gguf")
    return folder


def test_file(folder):
    reader = gguf.GGUFReader(folder / "imatrix.gguf")
    field = lambda key: reader.get_field(key).contents()
    assert field("general.type") == "imatrix"
    assert field("imatrix.datasets") == ["eval-text.jsonl"]
    assert field("imatrix.chunk_size") == 512
    found = tensors(folder / "imatrix.gguf")
    tokens = int(found["blk.0.attn_q.weight.counts"].data.item())
    assert 3500 < tokens <= 4000 + field("imatrix.chunk_count")
    weights = [
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_gate_inp",
        *(f"ffn_{p}_exps" for p in ("gate", "up", "down")),
    ]
    names = [f"blk.{i}.{name}.weight" for i in range(LAYERS) for name in weights] + ["output.weight"]
    assert set(found) == {name + end for name in names for end in (".in_sum2", ".counts")}
    for i in range(LAYERS):
        counts = found[f"blk.{i}.ffn_up_exps.weight.counts"].data.reshape(-1)
        assert counts.shape == (EXPERTS,) and counts.sum() == TOP_K * tokens
        assert found[f"blk.{i}.ffn_up_exps.weight.in_sum2"].data.shape == (EXPERTS, HIDDEN)
        # q, k and v have the same input; so do the router and the experts, which see each row TOP_K times.
        sums = [found[f"blk.{i}.{name}.weight.in_sum2"].data for name in ("attn_q", "attn_k", "attn_v")]
        assert (sums[0] == sums[1]).all() and (sums[0] == sums[2]).all()
        np.testing.assert_allclose(
            found[f"blk.{i}.ffn_up_exps.weight.in_sum2"].data.sum(0),
            TOP_K * found[f"blk.{i}.ffn_gate_inp.weight.in_sum2"].data.reshape(-1),
            rtol=1e-4,
        )


def test_fused_attention_and_tied_head(tmp_path):
    (tmp_path / "ids.json").write_text("[[17, 18, 19, 20]]")
    mxgpt("imatrix", "-m", FIXTURES / "gpt2-nano", "--ids", tmp_path / "ids.json", "-o", tmp_path / "imatrix.gguf")
    counts = {n: t.data.tolist() for n, t in tensors(tmp_path / "imatrix.gguf").items() if n.endswith(".counts")}
    weights = [f"blk.{i}.{n}" for i in range(6) for n in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")]
    assert set(counts) == {f"{name}.weight.counts" for name in [*weights, "token_embd"]}
    assert all(np.ravel(count) == [4] for count in counts.values())


def test_first_norm(tmp_path):
    """One token: the squares of the first layer's normalized embedding, computed by hand."""
    (tmp_path / "ids.json").write_text("[[17, 18]]")
    mxgpt("quantize", NANO, tmp_path / "f32.gguf", "--to", "f32")
    mxgpt("imatrix", "-m", tmp_path / "f32.gguf", "--ids", tmp_path / "ids.json", "-o", tmp_path / "imatrix.gguf")
    model = tensors(tmp_path / "f32.gguf")
    x = model["token_embd.weight"].data[[17, 18]].astype(np.float64)
    x *= model["blk.0.attn_norm.weight"].data / np.sqrt(np.square(x).mean(1, keepdims=True) + 1e-5)
    found = tensors(tmp_path / "imatrix.gguf")["blk.0.attn_q.weight.in_sum2"].data.reshape(-1)
    np.testing.assert_allclose(found, np.square(x).sum(0), rtol=1e-5)


@pytest.mark.parametrize("recipe", ["mxfp4-all", "q4_0", "q4_k"])
def test_lowers_the_weighted_error(folder, tmp_path, recipe):
    mxgpt("quantize", folder / "f32.gguf", tmp_path / "plain.gguf", "--to", recipe)
    mxgpt(
        "quantize",
        folder / "f32.gguf",
        tmp_path / "weighted.gguf",
        "--to",
        recipe,
        "--imatrix",
        folder / "imatrix.gguf",
    )
    plain, weighted, source = (
        tensors(p) for p in (tmp_path / "plain.gguf", tmp_path / "weighted.gguf", folder / "f32.gguf")
    )
    assert gguf.GGUFReader(tmp_path / "weighted.gguf").get_field("quantize.imatrix.entries_count").contents() == 49
    total = np.zeros(2)
    for name, means in importance(folder / "imatrix.gguf").items():
        if plain[name].tensor_type.name in ("F32", "Q8_0"):
            continue
        exact = values(source[name])
        errors = [
            (means[:, None, :] * np.square(values(t[name]) - exact).reshape(len(means), -1, means.shape[1])).sum()
            for t in (plain, weighted)
        ]
        assert errors[1] <= errors[0], name
        total += errors
    assert total[1] < 0.97 * total[0]


def test_experts_that_met_no_token(folder, tmp_path):
    """They are quantized without importance weights."""
    (tmp_path / "ids.json").write_text("[[17, 18]]")
    text = mxgpt("imatrix", "--ids", tmp_path / "ids.json", "-o", tmp_path / "few.gguf")
    assert "expert matrices received no token" in text
    means = importance(tmp_path / "few.gguf")["blk.0.ffn_up_exps.weight"]
    unseen = ~means.any(1)
    assert 4 <= unseen.sum() <= 8
    for options, name in (((), "plain"), (("--imatrix", tmp_path / "few.gguf"), "few")):
        mxgpt("quantize", folder / "f32.gguf", tmp_path / f"{name}.q.gguf", "--to", "q4_0", *options)
    plain, few = (tensors(tmp_path / f"{name}.q.gguf")["blk.0.ffn_up_exps.weight"].data for name in ("plain", "few"))
    assert [bool((p == f).all()) for p, f in zip(plain, few)] == unseen.tolist()


def write_importance(path, sums, counts, kind="imatrix", name="blk.0.attn_q.weight"):
    writer = gguf.GGUFWriter(path, "")
    writer.kv_data[0].clear()
    writer.add_string("general.type", kind)
    if sums is not None:
        writer.add_tensor(name + ".in_sum2", sums)
    if counts is not None:
        writer.add_tensor(name + ".counts", counts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


ones = lambda *shape: np.ones(shape, np.float32)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((ones(1, HIDDEN), None), "'blk.0.attn_q.weight.counts' is missing"),
        ((ones(1, HIDDEN).astype(np.float16), ones(1, 1)), "is F16, not F32"),
        ((-ones(1, HIDDEN), ones(1, 1)), "has the value -1"),
        ((ones(1, HIDDEN) * np.inf, ones(1, 1)), "has the value inf"),
        ((ones(1, HIDDEN), ones(1, 1) * np.nan), "has the value nan"),
        ((ones(1, HIDDEN), ones(7, 1)), "288 sums for 7 counts"),
        ((ones(1, 2 * HIDDEN), ones(1, 1)), "use the importance matrix of this model"),
        ((ones(2, HIDDEN), ones(2, 1)), "use the importance matrix of this model"),
        ((ones(1, HIDDEN), ones(1, 1), "model"), "is not an importance matrix"),
        ((None, ones(1, 1)), "has no entries"),
        ((ones(1, HIDDEN), ones(1, 1), "imatrix", "blk.9.attn_q.weight"), "matches no tensor of the model"),
    ],
)
def test_refuses(tmp_path, arguments, message):
    path, out = tmp_path / "imatrix.gguf", tmp_path / "out.gguf"
    write_importance(path, *arguments)
    text = mxgpt("quantize", NANO, out, "--to", "q4_0", "--imatrix", path, status=1)
    assert message in text and text.count("\n") == 1
    assert not out.exists()


def test_refuses_other_files(tmp_path):
    out = tmp_path / "out.gguf"
    (tmp_path / "text").write_text("hello")
    assert "GGUF" in mxgpt("quantize", NANO, out, "--to", "q4_0", "--imatrix", tmp_path / "text", status=1)
    assert "none.json" in mxgpt("imatrix", "--ids", tmp_path / "none.json", "-o", out, status=1)
    (tmp_path / "ids.json").write_text("[[5]]")
    assert "at least two tokens" in mxgpt("imatrix", "--ids", tmp_path / "ids.json", "-o", out, status=1)
    assert not out.exists()
