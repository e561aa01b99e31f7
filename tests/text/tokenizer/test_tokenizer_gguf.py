"""Vocabularies in GGUF files give the same ids as the tokenizer.json they were made from."""

import json
import random

import gguf
import numpy
import pytest
from tokenizer_texts import SCRIPTS, first_difference, random_mixtures, run
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = SCRIPTS + random_mixtures(150, 21) + ["<ctl>x<ctl> y", "a<mine>b", "  <mine>  ", "hello<ctl>"]
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
CORPUS = [text for text in SCRIPTS if len(text) < 200 and "▁" not in text]


def write(path, kind, tokens, types, scores=None, merges=None, pre=None, **ids):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(kind)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores:
        writer.add_token_scores(scores)
    if merges is not None:
        writer.add_token_merges(merges)
    for name, value in ids.items():
        getattr(writer, f"add_{name}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def compare(path, oracle, texts=TEXTS, add_special=False, decode=True):
    ids = [oracle.encode(text, add_special_tokens=add_special).ids for text in texts]
    ours = run("tokenize", path, texts, *["--add-special"] * add_special)
    assert not (difference := first_difference(texts, ours, ids)), difference
    if decode:
        rng = random.Random(2)
        ids += [[rng.randrange(oracle.get_vocab_size()) for _ in range(12)] for _ in range(50)]
        texts = [oracle.decode(each, skip_special_tokens=False) for each in ids]
        assert not (difference := first_difference(ids, run("detokenize", path, ids), texts)), difference


def types_of(tokens, special=(), user=(), unknown=None):
    kinds = (
        {token: BYTE for token in BYTE_TOKENS} | {token: CONTROL for token in special} | {token: USER for token in user}
    )
    return [UNKNOWN if token == unknown else kinds.get(token, NORMAL) for token in tokens]


def tokens_of(tokenizer):
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.get)


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE = {
    "gpt-2": [GPT2],
    "llama-bpe": [LLAMA3],
    "qwen2": [QWEN2],
    "gpt-4o": [GPT4O],
    "smollm": [r"\p{N}", GPT2],
    "refact": [r"\p{N}", GPT2],
    "starcoder": [r"\p{N}", GPT2],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
}


@pytest.mark.parametrize("pre", PRE)
def test_byte_level_bpe(tmp_path, pre):
    ignore_merges = pre in ("llama-bpe", "gpt-4o")
    oracle = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    stages = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in PRE[pre]]
    oracle.pre_tokenizer = pre_tokenizers.Sequence(stages + [pre_tokenizers.ByteLevel(False, use_regex=False)])
    oracle.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    oracle.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=600, show_progress=False, initial_alphabet=alphabet)
    )
    oracle.add_special_tokens(["<ctl>"])
    oracle.add_tokens([AddedToken("<mine>", normalized=False)])
    merges = json.loads(oracle.to_str())["model"]["merges"]
    tokens = tokens_of(oracle)
    bos = tokens.index("<ctl>")
    write(
        tmp_path / "t.gguf",
        "gpt2",
        tokens,
        types_of(tokens, ["<ctl>"], ["<mine>"]),
        pre=pre,
        merges=[" ".join(merge) for merge in merges],
        bos_token_id=bos,
        add_bos_token=True,
    )
    compare(tmp_path / "t.gguf", oracle)
    oracle.post_processor = processors.TemplateProcessing("<ctl> $A", "$A $B", [("<ctl>", bos)])
    compare(tmp_path / "t.gguf", oracle, add_special=True, decode=False)


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_bpe(tmp_path, prefix):
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=900, show_progress=False, limit_alphabet=200))
    words = tokens_of(trained)
    tokens = ["<unk>", "<ctl>", "</s>"] + BYTE_TOKENS + ["<mine>"] + words
    # sentencepiece scores characters below all merges and merges by their age.
    scores = [0.0] * 260 + [-1000.0 + i * 0.001 if len(word) == 1 else -float(i) for i, word in enumerate(words)]
    known = set(words)
    merges = [
        (scores[260 + i], word[:cut], word[cut:])
        for i, word in enumerate(words)
        for cut in range(1, len(word))
        if word[:cut] in known and word[cut:] in known
    ]
    merges.sort(key=lambda merge: -merge[0])
    oracle = Tokenizer(
        models.BPE(
            {token: i for i, token in enumerate(tokens)},
            [merge[1:] for merge in merges],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=False,
        )
    )
    spaces = normalizers.Replace(" ", "▁")
    oracle.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    strip = [decoders.Strip(" ", 1, 0)] * prefix
    oracle.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()] + strip)
    oracle.add_special_tokens(["<ctl>", "</s>"])
    oracle.add_tokens([AddedToken("<mine>", normalized=False)])
    write(
        tmp_path / "t.gguf",
        "llama",
        tokens,
        types_of(tokens, ["<ctl>", "</s>"], ["<mine>"], "<unk>"),
        scores,
        add_space_prefix=prefix,
        unk_token_id=0,
    )
    compare(tmp_path / "t.gguf", oracle)


def test_bert(tmp_path):
    oracle = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    oracle.normalizer = normalizers.BertNormalizer()
    oracle.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    oracle.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    oracle.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    )
    oracle.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokens = tokens_of(oracle)
    marked = [t if t in special else t[2:] if t.startswith("##") else "▁" + t for t in tokens]
    write(
        tmp_path / "t.gguf", "bert", marked, types_of(tokens, special), bos_token_id=1, sep_token_id=2, unk_token_id=0
    )
    texts = [text for text in TEXTS if "▁" not in text]  # a word that starts with the mark is ambiguous
    compare(tmp_path / "t.gguf", oracle, texts)
    compare(tmp_path / "t.gguf", oracle, texts, add_special=True, decode=False)


def test_sentencepiece_unigram(tmp_path):
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=500, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False),
    )
    pieces = [("<unk>", 0.0), ("</s>", 0.0)] + [
        tuple(p) for p in json.loads(trained.to_str())["model"]["vocab"] if p[0] != "<unk>"
    ]
    # Scores are stored in single precision.

    pieces = [(token, float(numpy.float32(score))) for token, score in pieces]
    oracle = Tokenizer(models.Unigram(pieces, 0, False))
    oracle.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always", False)
    oracle.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    oracle.add_special_tokens(["</s>"])
    tokens = [token for token, _ in pieces]
    write(
        tmp_path / "t.gguf",
        "t5",
        tokens,
        types_of(tokens, ["</s>"], unknown="<unk>"),
        [score for _, score in pieces],
        unk_token_id=0,
        eos_token_id=1,
    )
    texts = [text for text in TEXTS if "<unk>" not in text]  # the package matches <unk> in text, sentencepiece does not
    compare(tmp_path / "t.gguf", oracle, texts)
    oracle.post_processor = processors.TemplateProcessing("$A </s>", "$A $B", [("</s>", 1)])
    compare(tmp_path / "t.gguf", oracle, texts, add_special=True, decode=False)


def test_control_tokens_are_never_spelled(tmp_path):
    tokens = ["<unk>", "</s>", "▁", "a", "</", "s", ">", "<", "/"]
    write(tmp_path / "t.gguf", "t5", tokens, types_of(tokens, ["</s>"], unknown="<unk>"), [0.0] * 2 + [-1.0] * 7)
    assert run("tokenize", tmp_path / "t.gguf", ["a</s>"], "--plain") == [[2, 3, 4, 5, 6]]
    assert run("tokenize", tmp_path / "t.gguf", ["a</s>"]) == [[2, 3, 1]]
