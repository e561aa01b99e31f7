"""`mxgpt validate`: metrics against numpy, damaged models and files, and the three exit codes."""

import html.parser
import json
import os
import shutil
import struct

import numpy as np
import program
import pytest
from gguf import GGUFReader
from program import EVAL_TEXT, NANO
from safetensors.numpy import load_file, save_file

STORED = NANO / "reference-logits.safetensors"
PASS, FAIL, INCONCLUSIVE = 0, 1, 2


def mxgpt(*arguments):
    return program.mxgpt(*arguments, status=None)


def validate(tmp_path, reference, candidate, *arguments):
    out = tmp_path / "out.json"
    out.unlink(missing_ok=True)
    result = mxgpt("validate", "--reference", reference, "--candidate", candidate, "--json", out, *arguments)
    return result, json.loads(out.read_text()) if out.exists() else None


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    path = tmp_path_factory.mktemp("validate") / "nano.gguf"
    assert mxgpt("convert", NANO, path, "--dense", "q8_0").returncode == 0
    return path


@pytest.fixture(scope="module")
def few_ids(tmp_path_factory):
    """Eight sequences of 24 to 80 tokens."""
    path = tmp_path_factory.mktemp("ids") / "ids.json"
    stored = load_file(STORED)
    path.write_text(json.dumps([stored[f"{i}.ids"][: 24 + 8 * i].tolist() for i in range(8)]))
    return path


def tampered(gguf, path, name):
    """A copy in which all weights of an MXFP4 tensor are negated."""
    shutil.copy(gguf, path)
    (tensor,) = (t for t in GGUFReader(gguf).tensors if t.name == name)
    assert tensor.tensor_type.name == "MXFP4"
    data = np.memmap(path, dtype=np.uint8, mode="r+", offset=int(tensor.data_offset), shape=int(tensor.n_bytes))
    data.reshape(-1, 17)[:, 1:] ^= 0x88
    data.flush()
    return path


def test_a_model_equals_itself(tmp_path, few_ids):
    bounds = ["--max-kld", 0, "--min-top1", 0.9, "--max-ln-ppl", 0, "--max-logprob-error", 0]
    result, out = validate(tmp_path, NANO, NANO, "--ids", few_ids, "--precision", "exact", *bounds)
    assert result.returncode == PASS, result.stderr
    s = out["summary"]
    assert s["kld"]["mean"]["value"] == 0 and s["kld"]["max"] == 0
    assert s["ln_ppl_ratio"]["value"] == 0 and s["ln_ppl_ratio"]["interval"] == [0, 0]
    assert s["top1"]["value"] == s["top5"]["value"] == 1 and s["probability_rms"] == 0
    (layers,) = out["layer_comparisons"]
    assert all(point["relative_rms"] == 0 for point in layers["hidden_errors"])
    assert all(layer == {"top_k_overlap": 1, "same_top_expert": 1} for layer in layers["routing"])
    assert all(tensor["relative_rms"] == 0 for tensor in layers["weights"])
    assert layers["first_jump"] is None and "identical in all tensors" in result.stdout


def test_metrics_equal_numpys(tmp_path, gguf, few_ids):
    sequences = json.loads(few_ids.read_text())
    logprobs = []
    for model, precision in (NANO, "exact"), (gguf, "default"):
        out = tmp_path / f"{precision}.safetensors"
        assert (
            mxgpt("logits", "-m", model, "--ids", few_ids, "--out", out, "--full", "--precision", precision).returncode
            == 0
        )
        logits = load_file(out)
        logits = np.concatenate([logits[f"{i}.logits"] for i in range(len(sequences))]).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        logprobs.append(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
    p, q = logprobs
    kld = (np.exp(p) * (p - q)).sum(1)
    targets = np.concatenate([np.array(ids[1:] + [-1]) for ids in sequences])
    cluster = np.concatenate([np.full(len(ids), i) for i, ids in enumerate(sequences)])
    rows = np.nonzero(targets >= 0)[0]
    delta = (p - q)[rows, targets[rows]]
    totals = np.array([(delta - delta.mean())[cluster[rows] == i].sum() for i in range(8)])
    error = np.sqrt(8 / 7 * (totals**2).sum()) / len(delta)
    top5 = [np.argsort(-x, axis=1, kind="stable")[:, :5] for x in (p, q)]

    # The model and its stored logits give the same metrics.
    for reference, extra in (NANO, ["--ids", few_ids]), (tmp_path / "exact.safetensors", []):
        result, out = validate(tmp_path, reference, gguf, *extra)
        assert result.returncode == PASS and "No bounds were given" in result.stdout
        s = out["summary"]
        assert s["positions"] == len(kld) and s["scored_tokens"] == len(rows)
        assert s["kld"]["mean"]["value"] == pytest.approx(kld.mean(), rel=1e-4)
        for name, share in {"median": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999, "max": 1}.items():
            assert s["kld"][name] == pytest.approx(np.quantile(kld, share), rel=1e-4)
        assert s["kld"]["max_at"] == kld.argmax()
        assert s["ln_ppl_ratio"]["value"] == pytest.approx(delta.mean(), abs=1e-6)
        assert s["ln_ppl_ratio"]["standard_error"] == pytest.approx(error, rel=1e-4)
        t = 2.364624251592785  # 7 degrees of freedom
        assert s["ln_ppl_ratio"]["interval"] == pytest.approx(
            [delta.mean() - t * error, delta.mean() + t * error], abs=1e-6
        )
        assert s["top1"]["value"] == pytest.approx((p.argmax(1) == q.argmax(1)).mean())
        assert s["top5"]["value"] == pytest.approx(np.mean([len(set(a) & set(b)) / 5 for a, b in zip(*top5)]))
        change = np.exp(q)[rows, targets[rows]] - np.exp(p)[rows, targets[rows]]
        assert s["probability_rms"] == pytest.approx(np.sqrt((change**2).mean()), rel=1e-4)
        top8 = np.argsort(-p, axis=1, kind="stable")[:, :8]
        assert s["logprob_error"]["max"] == pytest.approx(np.abs(np.take_along_axis(p - q, top8, 1)).max(), rel=1e-4)
        bins = s["calibration"]["candidate"]
        assert sum(b["count"] for b in bins) == len(rows)
        right = sum(b["count"] * b["accuracy"] for b in bins)
        assert right == pytest.approx((q.argmax(1) == targets).sum())
        assert sum(s["kld_histogram"]["counts"]) == len(kld)


@pytest.mark.parametrize(
    "tensor, point",
    [("blk.3.ffn_down_exps.weight", "layer 3 MLP"), ("blk.0.ffn_up_exps.weight", "layer 0 MLP")],
)
def test_a_damaged_tensor_is_named_and_so_is_its_layer(tmp_path, gguf, few_ids, tensor, point):
    bad = tampered(gguf, tmp_path / "bad.gguf", tensor)
    result, out = validate(tmp_path, NANO, bad, "--ids", few_ids, "--max-kld", 0.02)
    assert result.returncode == FAIL
    (layers,) = out["layer_comparisons"]
    assert layers["first_jump"] == point and f"{point}: error jumps" in result.stdout
    worst = max(layers["weights"], key=lambda w: w["relative_rms"])
    assert worst["name"] == tensor and worst["relative_rms"] == pytest.approx(2)
    assert out["outcome"] == "fail" and out["results"][0]["criterion"] == "mean KLD ≤ 0.02"


def test_weight_errors_are_those_of_the_dequantized_tensors(tmp_path, gguf, few_ids):
    from gguf.quants import dequantize

    _, out = validate(tmp_path, NANO, gguf, "--ids", few_ids)
    found = {w["name"]: w for w in out["layer_comparisons"][0]["weights"]}
    tensors = {t.name: t for t in GGUFReader(gguf).tensors}
    assert set(found) == set(tensors)
    bf16 = load_file_bf16(NANO / "model.safetensors", "model.layers.2.self_attn.q_proj.weight")
    ours = dequantize(tensors["blk.2.attn_q.weight"].data, tensors["blk.2.attn_q.weight"].tensor_type)
    expected = np.sqrt(((ours - bf16) ** 2).sum() / (bf16**2).sum())
    assert found["blk.2.attn_q.weight"]["relative_rms"] == pytest.approx(expected, rel=1e-4)
    assert found["blk.2.attn_q.weight"]["format"] == "Q8_0"
    assert found["blk.2.ffn_up_exps.weight"]["relative_rms"] == 0


def load_file_bf16(path, name):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(size))[name]
        file.seek(8 + size + entry["data_offsets"][0])
        raw = np.frombuffer(file.read(entry["data_offsets"][1] - entry["data_offsets"][0]), np.uint16)
    return (raw.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"]).astype(np.float64)


def test_both_are_compared_with_the_source(tmp_path, gguf, few_ids):
    result, out = validate(tmp_path, gguf, NANO, "--source", NANO, "--ids", few_ids, "--precision", "exact")
    assert result.returncode == PASS and "reference vs. source" in result.stdout
    reference, candidate = out["source_comparisons"]
    assert reference["label"] == "reference" and reference["summary"]["kld"]["mean"]["value"] > 1e-6
    assert candidate["label"] == "candidate" and candidate["summary"]["kld"]["mean"]["value"] == 0
    assert out["baseline"] == "source" and [i["label"] for i in out["layer_comparisons"]] == ["reference", "candidate"]


def test_recipes_are_applied_to_the_source(tmp_path, few_ids):
    file = tmp_path / "mxfp4.gguf"
    assert mxgpt("quantize", NANO, file, "--to", "mxfp4-all").returncode == 0
    before = set(os.listdir(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = ["validate", "--reference", "q8_0", "--source", NANO, "--ids", few_ids, "--json", tmp_path / "out.json"]
    outs = []
    for candidate in "mxfp4-all", file:
        program.mxgpt(*command, "--candidate", candidate, env=environment)
        outs.append(json.loads((tmp_path / "out.json").read_text()))
    assert set(os.listdir(tmp_path)) - before == {"out.json"}
    assert outs[0]["summary"] == outs[1]["summary"] and outs[0]["layer_comparisons"] == outs[1]["layer_comparisons"]
    assert outs[0]["subjects"][1]["path"] == f"mxfp4-all of {NANO}"
    result = mxgpt("validate", "--reference", NANO, "--candidate", "q8_0", "--ids", few_ids)
    assert result.returncode == 1 and "--source" in result.stderr


def test_too_little_text_is_inconclusive(tmp_path, few_ids):
    result, out = validate(tmp_path, NANO, NANO, "--ids", few_ids, "--equivalence", 0.01)
    assert result.returncode == INCONCLUSIVE and "equivalence needs 50000" in result.stdout
    assert out["outcome"] == "inconclusive"
    (tmp_path / "one.json").write_text("[[1, 2, 3, 4, 5]]")
    result, _ = validate(tmp_path, NANO, NANO, "--ids", tmp_path / "one.json", "--max-kld", 1)
    assert result.returncode == INCONCLUSIVE and "too few tokens for a confidence interval" in result.stdout
    # A failure outweighs an inconclusive result.
    result, _ = validate(tmp_path, NANO, NANO, "--ids", few_ids, "--equivalence", 0.01, "--max-logprob-error", 1e-9)
    assert result.returncode == FAIL


def test_exact_precision_matches_the_stored_reference(tmp_path):
    bounds = ["--max-logprob-error", 2e-3, "--max-kld", 1e-6]
    result, out = validate(tmp_path, STORED, NANO, "--precision", "exact", *bounds)
    assert result.returncode == PASS, result.stdout + result.stderr
    assert out["summary"]["positions"] > 5000 and "transformers" in out["subjects"][0]["description"]
    assert out["summary"]["ln_ppl_ratio"]["value"] is None
    result, _ = validate(tmp_path, STORED, NANO, *bounds)
    assert result.returncode == FAIL
    result, _ = validate(tmp_path, STORED, NANO, "--precision", "exact", "--max-ln-ppl", 1)
    assert result.returncode == INCONCLUSIVE and "unknown" in result.stdout


def stored(**changes):
    tensors = {
        "0.ids": np.array([1, 2, 3], np.int32),
        "0.top_ids": np.tile(np.arange(8, dtype=np.int32), (3, 1)),
        "0.top_logprobs": np.tile(-np.arange(3, 11, dtype=np.float32), (3, 1)),
    }
    tensors.update({name.replace("_0_", "0."): value for name, value in changes.items()})
    return {name: value for name, value in tensors.items() if value is not None}


def with_value(array, value):
    array = array.copy()
    array[1, 2] = value
    return array


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"_0_ids": None}, "has no '0.ids'"),
        ({"_0_ids": np.array([], np.int32)}, "is empty"),
        ({"_0_ids": np.array([1, 2, 8064], np.int32)}, "outside the vocabulary"),
        ({"_0_ids": np.array([1, 2, -3], np.int32)}, "outside the vocabulary"),
        ({"_0_ids": np.array([1, 2, 3], np.float32)}, "not I32"),
        ({"_0_ids": np.array([[1], [2], [3]], np.int32)}, "not I32"),
        ({"_0_ids": np.array([1, 2], np.int32)}, "'0.top_ids' is I32 [3, 8], not I32 [2, 8]"),
        ({"_0_top_ids": None}, "neither logits nor top_ids"),
        ({"_0_top_ids": np.zeros((3, 8), np.int32)}, "occurs twice"),
        ({"_0_top_ids": with_value(stored()["0.top_ids"], 9000)}, "position 1: token 9000"),
        ({"_0_top_logprobs": with_value(stored()["0.top_logprobs"], np.nan)}, "not finite"),
        ({"_0_top_logprobs": with_value(stored()["0.top_logprobs"], 5)}, "sum to"),
        ({"_0_top_logprobs": with_value(stored()["0.top_logprobs"], -1)}, "not sorted"),
        ({"_0_top_logprobs": np.zeros((3, 8), np.float16)}, "not F32 [3, 8]"),
        ({"_0_last_logits": np.zeros(5, np.float32)}, "not F32 [8064]"),
        ({"_0_last_logits": np.full(8064, np.inf, np.float32)}, "not finite"),
        ({"_0_logits": np.full((3, 8064), np.nan, np.float32)}, "not finite"),
        (
            {"_0_ids": None, "_0_top_ids": None, "_0_top_logprobs": None, "other": np.zeros(3)},
            "is not a stored reference",
        ),
    ],
)
def test_an_invalid_stored_reference_gives_one_sentence(tmp_path, changes, complaint):
    save_file(stored(**changes), tmp_path / "r.safetensors")
    result, out = validate(tmp_path, tmp_path / "r.safetensors", NANO, "--max-kld", 1)
    assert result.returncode == FAIL and complaint in result.stderr and out is None
    assert result.stderr.count("\n") == 1 and "r.safetensors" in result.stderr


def test_ids_of_a_stored_reference_may_be_separate(tmp_path):
    save_file(stored(_0_ids=None), tmp_path / "r.safetensors")
    (tmp_path / "ids.json").write_text("[[1, 2, 3]]")
    result, out = validate(tmp_path, tmp_path / "r.safetensors", NANO, "--ids", tmp_path / "ids.json")
    assert result.returncode == PASS and out["summary"]["positions"] == 3
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "r.safetensors").read_bytes()[:-7])
    result, _ = validate(tmp_path, tmp_path / "cut.safetensors", NANO)
    assert result.returncode == FAIL and "cut.safetensors" in result.stderr


def test_wrong_options_give_one_sentence(tmp_path, few_ids):
    assert "needs two models" in mxgpt("validate", "--candidate", NANO).stderr
    assert (
        "neither a model nor a recipe" in mxgpt("validate", "--reference", NANO, "--candidate", tmp_path / "x").stderr
    )
    assert "--text" in mxgpt("validate", "--reference", NANO, "--candidate", NANO).stderr
    result = mxgpt("validate", "--reference", STORED, "--candidate", NANO, "--source", NANO)
    assert result.returncode == 1 and "--source" in result.stderr
    result = mxgpt("validate", "--reference", STORED, "--candidate", NANO, "--text", EVAL_TEXT)
    assert result.returncode == 1 and "have their own tokens" in result.stderr
    result = mxgpt("validate", "--reference", NANO, "--candidate", NANO, "--ids", few_ids, "--min-top1", "2")
    assert result.returncode == 2 and "--min-top1" in result.stderr


class Page(html.parser.HTMLParser):
    """Checks that elements nest correctly, and collects everything that a browser would load or run."""

    VOID = {"meta", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.tags, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href", "xlink:href", "style")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_self_contained_and_escapes_names(tmp_path, gguf, few_ids):
    name = tmp_path / "<script>alert('1')<b>&.gguf"
    shutil.copy(gguf, name)
    arguments = ["--source", NANO, "--ids", few_ids, "--html", tmp_path / "out.html", "--equivalence", 0.01]
    result, _ = validate(tmp_path, NANO, name, *arguments)
    assert result.returncode == INCONCLUSIVE
    text = (tmp_path / "out.html").read_text("utf-8")
    page = Page(text)
    assert page.loads == [] and not {"script", "link", "img", "iframe", "b>"} & set(page.tags)
    assert "url(" not in text and "@import" not in text
    assert page.tags.count("svg") == 6 and "<script>alert" in page.text
    assert "Inconclusive" in page.text and "mxgpt validate --reference" in page.text
    assert len(text) < 150_000
    # A page of stored top-8 log-probabilities has neither a ratio nor layer comparisons.
    result, _ = validate(tmp_path, STORED, NANO, "--precision", "exact", "--html", tmp_path / "out.html")
    page = Page((tmp_path / "out.html").read_text("utf-8"))
    assert "No bounds" in page.text and "Not compared" in page.text


def test_output_that_cannot_be_written_is_an_error(tmp_path, few_ids):
    result = mxgpt(
        "validate", "--reference", NANO, "--candidate", NANO, "--ids", few_ids, "--html", tmp_path / "no" / "x.html"
    )
    assert result.returncode == 1 and "x.html" in result.stderr
