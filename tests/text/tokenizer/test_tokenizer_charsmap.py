"""The Precompiled normalizer: a character map as sentencepiece stores it, against the `tokenizers` package."""

import base64
import json
import struct

from tokenizer_texts import SCRIPTS, assert_same, random_mixtures
from tokenizers import Tokenizer, models, pre_tokenizers

RULES = {
    "ﬁ": "fi",
    "①": "1",
    "\u212b": "\u00c5",
    "é": "é",
    "\t": " ",
    "\u00a0": " ",
    "\u200b": "",
    "½": "1/2",
    "㎏": "kg",
    "が": "が",
    "A\u030a": "Å",
    "\r\n": "\n",
    "ｶ": "カ",
    "ﾞ": "゛",
    "ab": "AB!",
    "\u0301": "´",
    "ﷺ": "صلى الله عليه وسلم",
    "👍🏽": "+1",
    "ß": "ss",
}


def double_array(keys):
    """A Darts-clone double array of {bytes: value}: units of label, leaf bit and offset; values have bit 31 set."""
    units, used = {0: [0, False, 0]}, {0}

    def place(node, suffixes):
        labels = sorted({suffix[0] if suffix else 0 for suffix, _ in suffixes})
        offset = 1
        while any(offset ^ label in used for label in labels) or offset in used:
            offset += 1
        base = offset
        used.update(base ^ label for label in labels)
        used.add(base)
        units[node][2] = node ^ base
        for label in labels:
            children = [
                (suffix[1:], value) for suffix, value in suffixes if (suffix[0] if suffix else 0) == label and suffix
            ]
            if label == 0:
                units[node][1] = True
                units[base] = next(value for suffix, value in suffixes if not suffix)
            else:
                units[base ^ label] = [label, False, 0]
                place(base ^ label, children)

    place(0, [(key, value) for key, value in keys.items()])
    array = [0] * (max(units) + 256)
    for index, unit in units.items():
        if isinstance(unit, int):
            array[index] = unit | 1 << 31
        else:
            label, leaf, offset = unit
            assert offset < 1 << 21
            array[index] = label | leaf << 8 | offset << 10
    return struct.pack(f"<{len(array)}I", *array)


def charsmap(rules):
    replacements, offsets = b"", {}
    for key, replacement in rules.items():
        offsets[key.encode()] = len(replacements)
        replacements += replacement.encode() + b"\0"
    trie = double_array(offsets)
    return struct.pack("<I", len(trie)) + trie + replacements


def test_precompiled(tmp_path):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    document = json.loads(tokenizer.to_str())
    document["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(RULES)).decode()}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    combined = [a + b for a in RULES for b in [*RULES, "\u0308", "\u200d", "x", "\u0323\u0301"]]
    assert_same(path, SCRIPTS + list(RULES) + combined + random_mixtures(100, 31))
