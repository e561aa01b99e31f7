"""How far a model file in the default precision is from the checkpoint in exact precision.

    build/python/bin/python bench/fidelity.py CANDIDATE.gguf [--reference models/gpt-oss-nano] [--tokens 4096] [--accumulate f16]

Teacher-forced on tests/data/eval-text.jsonl in pieces of 512 tokens. Prints the mean, 99th percentile and largest
KL divergence, top-1 agreement and the ln perplexity ratio. Exact precision is held to transformers in float32 by the
tests (max |d logprob| below 2e-3 at every position), so it stands for them here.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile

import numpy as np
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
MXGPT = os.environ.get("MXGPT", ROOT / "build/release/mxgpt")
PIECE = 512


def pieces(tokenizer, tokens):
    texts = [json.loads(line)["text"] for line in open(ROOT / "tests/data/eval-text.jsonl")]
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    command = [MXGPT, "tokenize", "--tokenizer", tokenizer, "--jsonl"]
    encoded = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
    # Pieces from texts spread over the whole file, which holds several kinds.
    whole = [ids[:PIECE] for ids in map(json.loads, encoded.splitlines()) if len(ids) >= PIECE]
    count = max(1, tokens // PIECE)
    return whole[:: max(1, len(whole) // count)][:count]


def logprobs(model, ids, precision, folder, accumulate="f32"):
    (folder / "ids.json").write_text(json.dumps(ids))
    command = [MXGPT, "logits", "--model", model, "--ids", folder / "ids.json", "--out", folder / "out", "--full"]
    subprocess.run([*command, "--precision", precision, "--accumulate", accumulate], check=True)
    logits = load_file(folder / "out")
    result = np.concatenate([logits[f"{i}.logits"] for i in range(len(ids))]).astype(np.float64)
    result -= result.max(1, keepdims=True)
    return result - np.log(np.exp(result).sum(1, keepdims=True))


def measure(candidate, reference, tokens, accumulate="f32"):
    """Of the candidate in default precision against the reference in exact precision, over `tokens` positions.
    `accumulate` is the candidate's."""
    ids = pieces(reference, tokens)
    with tempfile.TemporaryDirectory() as folder:
        p = logprobs(reference, ids, "exact", pathlib.Path(folder))
        q = logprobs(candidate, ids, "default", pathlib.Path(folder), accumulate)
    kld = (np.exp(p) * (p - q)).sum(1)
    targets = np.concatenate([piece[1:] for piece in ids])
    rows = np.concatenate([np.arange(len(piece) - 1) + i * PIECE for i, piece in enumerate(ids)])
    return {
        "positions": len(kld),
        "mean_kld": kld.mean(),
        "p99_kld": np.quantile(kld, 0.99),
        "max_kld": kld.max(),
        "top1": (p.argmax(1) == q.argmax(1)).mean(),
        "ln_ppl_ratio": (p[rows, targets] - q[rows, targets]).mean(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidate")
    parser.add_argument("--reference", default=str(ROOT / "models/gpt-oss-nano"))
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--accumulate", choices=["f16", "f32"], default="f32", help="what the candidate sums in")
    options = parser.parse_args()
    m = measure(options.candidate, options.reference, options.tokens, options.accumulate)
    print(
        f"{m['positions']} positions: mean KLD {m['mean_kld']:.2e}, p99 {m['p99_kld']:.2e}, max {m['max_kld']:.2e}, "
        f"top-1 {100 * m['top1']:.2f}%, ln PPL ratio {m['ln_ppl_ratio']:+.5f}"
    )


if __name__ == "__main__":
    main()
