"""Difficult texts for tokenizers, and the comparison of mxgpt with the `tokenizers` package."""

import json
import os
import random
import subprocess
import sys

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import tokenizers  # noqa: E402
from program import MXGPT  # noqa: E402

SCRIPTS = [
    "The quick brown fox can't jump over 13 lazy dogs; it's 3.14159 o'clock, WE'LL see! I'D've said SO.",
    "Größe, façade, naïve, Ærøskøbing, İstanbul ıI, Straße STRASSE ẞ ﬁnd oﬃce ſ K Å",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. ЁЖИК №5",
    "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία ΟΔΥΣΣΕΥΣ ᾳ ᾼ",
    "色は匂へど散りぬるを 我が世誰ぞ常ならむ カタカナ ｶﾀｶﾅ ひらがな、。「日本語」１２３",
    "天地玄黃，宇宙洪荒。简体字 𠀀𪜀𫝀 豈 更 ⺀ 〇",
    "다람쥐 헌 쳇바퀴에 타고파 한글 ᄒ\u1161\u11ab",
    "نص حكيم له سر قاطع وذو شأن عظيم ١٢٣ ۴۵۶ ـــ",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה שִׁין",
    "ऋषियों को सताने वाले दुष्ट राक्षसों क्षत्रिय १२३ क़ ड़",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า ๑๒๓ ກຂຄ ខ្ញុំ မြန်မာ",
    "გთხოვთ Ⴀ ა Ა Հայերեն ኢትዮጵያ ᏣᎳᎩ ꮳꮃꭹ 𐐀𐐨 𞤀𞤢",
    "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β ½ ² ³ ¹ ¼ ⅓ Ⅷ ⅷ ① ⒈ ㊀ ㎏ ™ © ℃ Ω µ μ",
    "👩‍👩‍👧‍👦 👍🏽 🇳🇴🇯🇵 ❤️ 1️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🫠🫨🪿 ☺︎ 🤷🏿‍♀️",
    "e\u0301 a\u0323\u0307 a\u0307\u0323 q\u0307\u0323 \u0344 Z\u0351\u036b\u0343\u036a\u0302 \u1e9b\u0323 \u0958 \u0929",
    "zero\u200bwidth\u200cnon\u200djoin\u2060er soft\u00adhyphen \ufeffBOM \u180e mongolian \u061c \u202eRTL\u202c",
    "\u0000\u0001\u0007\u0008\u000b\u000c\u001b\u001c\u001f\u007f\u0080\u0085\u009f control",
    "tabs\t\ttab \t mixed \r\n crlf\r\rcr\n\n\nlf  \u00a0nbsp \u2003em\u3000ideographic \u2028ls\u2029ps\u202f\u1680",
    "    four\n        eight\n\tindent    \n   \n",
    'def f(x: int) -> str:\n    return f\'{x!r:>{10}}\'  # comment\n\n\nclass A(B):\n\t"""doc"""\n',
    "for (int i=0;i<n;++i){a[i]+=b[i]*c[i];} /* x */ // y\n#include <stdio.h>\n",
    "SELECT * FROM t WHERE a='it''s' AND b<>\"q\"; -- 1e-10 0x1F 0b11 1_000_000 v1.2.3-rc4",
    "https://user:pw@example.org:8080/a/b?c=d&e=%20#f mail@example.org C:\\Path\\x.txt /usr/bin/env",
    '{"a": [1, 2.5, null, true], "b": {"c": "\\u00e9\\n"}}',
    "<s>hello</s> [CLS] x [SEP] <unk> <|endoftext|> <pad> [MASK]s <0x41> <0x0A> ▁x ▁▁ Ġx ##ing",
    "hello . how are you ? i 'm fine , do not worry ! it 's n't we 've they 're ' x '",
    "aaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 11111111111111 ---------- ..........",
    "x" * 300,
    " " * 100,
    "\u0301" * 70,
    "a" + "\u0323\u0307" * 40,
    "",
    " ",
    "\n",
    "a",
    "é",
    "\ufffd\ufffe\uffff\U0010ffff",
    "\U0001fae9 \U00010d4a\U00010d50 \U00032350 \ua7cb\ua7dc \U00016d40 \U0001e5d0 \u0897x \u2427",
]


def all_code_points():
    return [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def random_mixtures(count, seed, longest=80):
    """Characters of the scripts above and any code points, in random order."""
    rng = random.Random(seed)
    pools = [text for text in SCRIPTS if text]
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(rng.randrange(1, longest // 4)):
            kind = rng.random()
            pool = rng.choice(pools)
            if kind < 0.5:
                start = rng.randrange(len(pool))
                parts.append(pool[start : start + rng.randrange(1, 8)])
            elif kind < 0.8:
                parts.append(rng.choice(pool) * rng.choice([1, 1, 1, 2, 3, 7]))
            elif kind < 0.9:
                parts.append(rng.choice([" ", "  ", "\n", "\t", "\r\n", "'s", "'LL", "\u0301", "\u200d", "123"]))
            else:
                c = rng.randrange(0x10FFFF)
                parts.append("x" if 0xD800 <= c <= 0xDFFF else chr(c))
        texts.append("".join(parts))
    return texts


def run(command, path, values, *flags):
    lines = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    done = subprocess.run(
        [MXGPT, command, "--tokenizer", str(path), "--jsonl", *flags],
        input=lines.encode(),
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    results = done.stdout.decode().split("\n")[:-1]
    assert len(results) == len(values)
    return [json.loads(result) for result in results]


def first_difference(texts, ours, theirs):
    for text, a, b in zip(texts, ours, theirs, strict=True):
        if a != b:
            return f"{text!r}\nmxgpt:      {a}\ntokenizers: {b}"
    return None


def assert_same(path, texts, *, also=()):
    """Ids and decoded text of a tokenizer.json equal those of the package, for each way to encode."""
    oracle = tokenizers.Tokenizer.from_file(str(path))
    oracle.no_truncation()
    oracle.no_padding()
    ids = [oracle.encode(text, add_special_tokens=False).ids for text in texts]
    assert not (difference := first_difference(texts, run("tokenize", path, texts), ids)), difference
    if "--add-special" in also:
        special = [oracle.encode(text).ids for text in texts]
        ours = run("tokenize", path, texts, "--add-special")
        assert not (difference := first_difference(texts, ours, special)), difference
    if "--plain" in also:
        oracle.encode_special_tokens = True
        plain = [oracle.encode(text, add_special_tokens=False).ids for text in texts]
        ours = run("tokenize", path, texts, "--plain")
        assert not (difference := first_difference(texts, ours, plain)), difference
    rng = random.Random(7)
    ids += [[rng.randrange(oracle.get_vocab_size() + 3) for _ in range(rng.randrange(1, 20))] for _ in range(50)]
    decoded = [oracle.decode(each, skip_special_tokens=False) for each in ids]
    assert not (difference := first_difference(ids, run("detokenize", path, ids), decoded)), difference
    kept = [oracle.decode(each, skip_special_tokens=True) for each in ids]
    ours = run("detokenize", path, ids, "--skip-special")
    assert not (difference := first_difference(ids, ours, kept)), difference


if __name__ == "__main__":
    sys.exit("a module of the tests beside it")
