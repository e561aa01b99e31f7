"""Every component of a tokenizer.json, alone and together, against the `tokenizers` package.

With a model of 256 byte tokens and no merges, ids show the normalized text byte for byte. A ByteLevel pre-tokenizer
that adds spaces shows where words begin. The models themselves are trained on the texts.
"""

import itertools
import json

import pytest
from tokenizer_texts import SCRIPTS, all_code_points, assert_same, random_mixtures
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = SCRIPTS + random_mixtures(60, 11)
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def code_point_runs():
    points = all_code_points()
    return ["".join(map(chr, points[i : i + 1024])) for i in range(0, 0x33000, 1024)] + [
        "".join("a" + chr(c) for c in points[i : i + 1024]) for i in range(0, 0x1FC00, 1024)
    ]


# Components that depend on character properties see every character.
BY_CODE_POINT = [
    "nfc",
    "nfd",
    "nfkc",
    "nfkd",
    "lowercase",
    "strip_accents",
    "nmt",
    "bert_1111",
    "whitespace",
    "bert",
    "digits_each",
    "punctuation_isolated",
    "gpt2",
]


def bytes_model():
    return Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(ALPHABET)}, merges=[]))


def check(tmp_path, tokenizer, texts=TEXTS, also=(), change=None):
    path = tmp_path / "tokenizer.json"
    text = tokenizer.to_str()
    if change:
        document = json.loads(text)
        change(document)
        text = json.dumps(document)
    path.write_text(text, encoding="utf-8")
    assert_same(path, texts, also=also)


NORMALIZERS = {
    "nfc": normalizers.NFC(),
    "nfd": normalizers.NFD(),
    "nfkc": normalizers.NFKC(),
    "nfkd": normalizers.NFKD(),
    "lowercase": normalizers.Lowercase(),
    "strip_accents": normalizers.StripAccents(),
    "nmt": normalizers.Nmt(),
    "nfd_strip_accents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
    "strip": normalizers.Strip(),
    "strip_left": normalizers.Strip(right=False),
    "strip_right": normalizers.Strip(left=False),
    "prepend": normalizers.Prepend("▁"),
    "byte_level": normalizers.ByteLevel(),
    "replace": normalizers.Replace(" ", "▁"),
    "replace_regex": normalizers.Replace(Regex(r"\s{2,}|[\n\r]+"), " "),
    "replace_many": normalizers.Replace(Regex(r"\d"), "##"),
    "llama": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
    "t5": normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]),
} | {
    f"bert_{''.join('01'[bool(x)] if x is not None else '-' for x in options)}": normalizers.BertNormalizer(*options)
    for options in itertools.product([True, False], [True, False], [True, False, None], [True, False])
}


@pytest.mark.parametrize("name", NORMALIZERS)
def test_normalizer(tmp_path, name):
    tokenizer = bytes_model()
    tokenizer.normalizer = NORMALIZERS[name]
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    check(tmp_path, tokenizer, TEXTS + (code_point_runs() if name in BY_CODE_POINT else []))


BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
PATTERNS = {
    "string": "a",
    "blank": " ",
    "empty": "",
    "letters": Regex(r"\p{L}+"),
    "digit": Regex(r"\d"),
    "maybe": Regex(r"x*"),
    "bound": Regex(r"\b"),
    "word": Regex(r"\w+"),
    "not_space": Regex(r"[^\S\n]+|\n"),
    "anchors": Regex(r"^.|.$"),
}
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
# Differences between Oniguruma's Ruby syntax and PCRE2's Perl syntax.
DIALECT = [
    r"(?m:a.b)|(?i)x|y",
    r"\h+",
    r"\v",
    r"[[:alpha:]]+",
    r"[[:punct:]]+",
    r"[[:^alpha:]]+",
    r"[^[:space:]]+",
    r"\p{Han}+",
    r"\p{^L}+",
    r"\P{L}+",
    r"[\p{L}&&[^\p{Han}]]+",
    r"[a-z&&[^aeiou]]+",
    r"[^a-z&&[aeiou]]",
    r"[a-c[x-z]]+",
    r"[[^a-c]x]+",
    r"a{,2}b",
    r"\d{1,3}+",
    r"a{2}?",
    r"a++|b*+|c?+",
    r"(?>a+)b?",
    r"(?<!\w)[A-Z]",
    r"(?<=\s)\S",
    r"[\w']+",
    r"\W+",
    r"\S+",
    r"\s+$",
    r"^\s+",
    r"\A.",
    r".\z",
    r".\Z",
    r"[\u4e00-\u9fa5]+",
    r"[\x{3040}-\x{30ff}]+",
    r"([a-z ])\1",
    r"(?<n>a|b)\k<n>",
    r"\p{Lu}|\p{Ll}+",
    r"\p{Letter}+",
    r"\p{Alnum}+",
    r"\p{Emoji_Modifier}",
    r"[\r\n/]*x",
    r"\R",
    r"\B.",
    r"[^\n]+(?=\n)",
    r"(?x: a  b # comment" "\n)",
    r"[]a]",
    r"[a-]+",
    r"\p{N}{1,3}(?=(?:\p{N}{3})*\b)",
    r"(?i:k|ſ|é|Ω)",
    r"(?i)[a-z]+",
    r"\O",
    r"[\s\p{P}]+",
    r"\p{Alpha}+",
    r"\p{Lower}+",
    r"\p{Word}+",
    r"\p{Greek}+|\p{Cyrillic}+",
    r"\p{Alphabetic}\p{L}",
]


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(pattern, behavior, invert)


PRE_TOKENIZERS = (
    {
        f"split_{name}_{behavior}_{invert}": split(pattern, behavior, invert)
        for (name, pattern), behavior, invert in itertools.product(PATTERNS.items(), BEHAVIORS, [False, True])
    }
    | {f"dialect_{i}": split(Regex(pattern)) for i, pattern in enumerate(DIALECT)}
    | {
        "gpt2": split(Regex(GPT2)),
        "llama3": split(Regex(LLAMA3)),
        "whitespace": pre_tokenizers.Whitespace(),
        "whitespace_split": pre_tokenizers.WhitespaceSplit(),
        "bert": pre_tokenizers.BertPreTokenizer(),
        "digits": pre_tokenizers.Digits(),
        "digits_each": pre_tokenizers.Digits(True),
        "delimiter": pre_tokenizers.CharDelimiterSplit("e"),
        "fixed": pre_tokenizers.FixedLength(7),
        "byte_level": pre_tokenizers.ByteLevel(False),
        "byte_level_prefix": pre_tokenizers.ByteLevel(True),
        "byte_level_twice": pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(False), pre_tokenizers.Digits(True)]),
        "sequence": pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(True), split(Regex(GPT2)), pre_tokenizers.Punctuation()]
        ),
    }
    | {f"punctuation_{behavior}": pre_tokenizers.Punctuation(behavior) for behavior in BEHAVIORS}
    | {
        f"metaspace_{scheme}_{does_split}": pre_tokenizers.Metaspace("▁", scheme, does_split)
        for scheme, does_split in itertools.product(["first", "never", "always"], [True, False])
    }
    | {
        "split_metaspace": pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", "first")]
        ),
    }
)


@pytest.mark.parametrize("group", range(8))
def test_pre_tokenizer(tmp_path, group):
    for name in list(PRE_TOKENIZERS)[group::8]:
        tokenizer = bytes_model()
        tokenizer.add_special_tokens(["<s>"])
        shows_boundaries = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([PRE_TOKENIZERS[name], shows_boundaries])
        texts = TEXTS + (code_point_runs() if name in BY_CODE_POINT else [])
        try:
            check(tmp_path, tokenizer, texts)
        except AssertionError as error:
            raise AssertionError(f"{name}: {PRE_TOKENIZERS[name]}: {error}") from None


def trained(model, trainer, normalizer=None, pre_tokenizer=None, decoder=None):
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder:
        tokenizer.decoder = decoder
    tokenizer.train_from_iterator([text for text in SCRIPTS if len(text) < 200], trainer)
    return tokenizer


BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
SPACED = pre_tokenizers.WhitespaceSplit()


@pytest.mark.parametrize("fallback", ["no", "all", "some"])
@pytest.mark.parametrize("fuse, ignore_merges", list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("affixes", [("", ""), ("##", ""), ("", "</w>"), ("@", "$")])
def test_bpe(tmp_path, fallback, fuse, ignore_merges, affixes):
    prefix, suffix = affixes
    byte_tokens = BYTE_TOKENS[:200] if fallback == "some" else BYTE_TOKENS
    options = {"continuing_subword_prefix": prefix} if prefix else {}
    options |= {"end_of_word_suffix": suffix} if suffix else {}
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>"] + (byte_tokens if fallback != "no" else []),
        show_progress=False,
        limit_alphabet=120,
        **options,
    )
    model = models.BPE(
        unk_token="<unk>", fuse_unk=fuse, ignore_merges=ignore_merges, byte_fallback=fallback != "no", **options
    )
    tokenizer = trained(model, trainer, pre_tokenizer=SPACED, decoder=decoders.BPEDecoder(suffix=suffix or "</w>"))
    check(tmp_path, tokenizer, also=["--plain"])


@pytest.mark.parametrize("spelling", ["pairs", "strings"])
def test_bpe_merges_spellings_and_missing_unknown(tmp_path, spelling):
    tokenizer = trained(
        models.BPE(),
        trainers.BpeTrainer(vocab_size=600, show_progress=False, limit_alphabet=90),
        pre_tokenizer=pre_tokenizers.ByteLevel(),
        decoder=decoders.ByteLevel(),
    )

    def change(document):
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in document["model"]["merges"]]
        document["model"]["merges"] = (
            merges if spelling == "pairs" else ["#version: 0.2"] + [" ".join(m) for m in merges]
        )
        document["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}

    check(tmp_path, tokenizer, change=change)


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("pre_tokenizer", ["metaspace", "none", "words"])
def test_unigram(tmp_path, fallback, pre_tokenizer):
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=["<unk>"] + BYTE_TOKENS * fallback, unk_token="<unk>", show_progress=False
    )
    stage = {"metaspace": pre_tokenizers.Metaspace(), "none": None, "words": SPACED}[pre_tokenizer]
    decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = trained(models.Unigram(), trainer, normalizers.NFKC(), stage, decoder)

    def change(document):
        document["model"]["byte_fallback"] = fallback

    check(tmp_path, tokenizer, change=change)


@pytest.mark.parametrize("prefix, longest, cleanup", [("##", 100, True), ("", 100, False), ("@@", 5, True)])
def test_word_piece(tmp_path, prefix, longest, cleanup):
    trainer = trainers.WordPieceTrainer(
        vocab_size=600,
        special_tokens=["[UNK]", "[CLS]", "[SEP]"],
        show_progress=False,
        continuing_subword_prefix=prefix,
    )
    model = models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=prefix, max_input_chars_per_word=longest)
    tokenizer = trained(
        model,
        trainer,
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
        decoders.WordPiece(prefix, cleanup),
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    check(tmp_path, tokenizer, also=["--add-special", "--plain"])


def test_word_level_and_no_decoder(tmp_path):
    trainer = trainers.WordLevelTrainer(vocab_size=400, special_tokens=["[UNK]"], show_progress=False)
    tokenizer = trained(models.WordLevel(unk_token="[UNK]"), trainer, pre_tokenizer=pre_tokenizers.Whitespace())
    check(tmp_path, tokenizer)


POST_PROCESSORS = {
    "template": processors.TemplateProcessing("[A] $A [B] [A]", "$A [B] $B", [("[A]", 300), ("[B]", 301)]),
    "template_nothing": processors.TemplateProcessing("$0", "$A $B", []),
    "bert": processors.BertProcessing(("[B]", 301), ("[A]", 300)),
    "roberta": processors.RobertaProcessing(("[B]", 301), ("[A]", 300)),
    "byte_level": processors.ByteLevel(),
    "sequence": processors.Sequence(
        [processors.ByteLevel(), processors.TemplateProcessing("[A] $A", "$A $B", [("[A]", 300)])]
    ),
}


@pytest.mark.parametrize("name", POST_PROCESSORS)
def test_post_processor(tmp_path, name):
    tokenizer = bytes_model()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    tokenizer.post_processor = POST_PROCESSORS[name]
    check(tmp_path, tokenizer, also=["--add-special"])


ADDED_TEXTS = TEXTS + [
    "a<x>b",
    "<x>",
    "  <x>  <x>  ",
    "a <x>b",
    "a\n <x>\t\tb",
    "xthe theme the, thou Thou The THE_ thé the\u0301 the\u200d",
    "<x><y><x>",
    "foo foobar foo  bar foo",
    "\u3000<x>\u2003<y>\u00a0",
    "_foo foo_ foo1 foo² foo\u0301 foo-foo",
    "<X> <Y> FOO Foo",
    "<x",
    "<x>>",
    "<<x>",
    "  foo  ",
    "the",
    " the",
    "the ",
    "foobarfoo barfoo",
    "A  B",
    "<y>   <y>",
]


@pytest.mark.parametrize("flags", list(itertools.product([False, True], repeat=5)))
def test_added_tokens(tmp_path, flags):
    single_word, lstrip, rstrip, normalized, lowercase = flags
    tokenizer = bytes_model()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    tokenizer.normalizer = normalizers.Lowercase() if lowercase else normalizers.Replace("o", "0")
    tokenizer.decoder = decoders.ByteLevel()
    options = dict(single_word=single_word, lstrip=lstrip, rstrip=rstrip, normalized=normalized)
    tokenizer.add_tokens([AddedToken(t, **options) for t in ["foo", "foobar", "Thou", "  ", "É"]])
    tokenizer.add_special_tokens([AddedToken(t, **options) for t in ["<x>", "<Y>", "a", "the"]])
    tokenizer.add_tokens([AddedToken("bar", normalized=not normalized, rstrip=lstrip)])
    check(tmp_path, tokenizer, ADDED_TEXTS, also=["--plain"])


def test_added_token_ids_follow_the_vocabulary(tmp_path):
    tokenizer = bytes_model()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    tokenizer.add_tokens(["<one>", "<two>"])

    def change(document):
        document["added_tokens"][0]["id"] = 900
        document["model"]["vocab"]["zz"] = 1000
        document["model"]["vocab"]["yy"] = 257

    check(tmp_path, tokenizer, TEXTS + ["<one><two>zz yy"], change=change)


DECODERS = {
    "byte_level": decoders.ByteLevel(),
    "metaspace": decoders.Metaspace(),
    "metaspace_never": decoders.Metaspace("▁", "never"),
    "byte_fallback": decoders.ByteFallback(),
    "fuse": decoders.Fuse(),
    "strip": decoders.Strip("a", 1, 0),
    "replace": decoders.Replace("▁", " "),
    "replace_regex": decoders.Replace(Regex("[aeiou]"), "_"),
    "word_piece": decoders.WordPiece(),
    "word_piece_raw": decoders.WordPiece("▁", False),
    "ctc": decoders.CTC("a", "|", True),
    "bpe": decoders.BPEDecoder("▁"),
    "llama": decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    ),
    "fuse_replace": decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("▁▁", "="), decoders.Strip("=", 2, 0)]
    ),
    "fuse_regex": decoders.Sequence([decoders.Fuse(), decoders.Replace(Regex("▁+|<0x0.>"), "-")]),
    "fuse_metaspace": decoders.Sequence([decoders.Fuse(), decoders.Metaspace()]),
    "byte_level_strip": decoders.Sequence([decoders.ByteLevel(), decoders.Strip("a", 1, 0)]),
}


@pytest.mark.parametrize("name", DECODERS)
def test_decoder(tmp_path, name):
    words = BYTE_TOKENS + [
        "▁",
        "▁a",
        "a",
        "▁▁b",
        "##c",
        "é",
        "Ġx",
        "Ã",
        "©",
        "中",
        ".",
        "n't",
        "'s",
        "|",
        "aa",
        "▁do not",
        "",
    ]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = DECODERS[name]
    tokenizer.add_special_tokens(["<end>"])
    check(tmp_path, tokenizer, ["a", "a▁b▁▁a", "aa..||aa", "é中a<end>a"])
