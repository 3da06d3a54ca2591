"""Captions in the files beside an image: conventions of other programs, and whatever else such a file may hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.training.data.captions.caption_files import (
    MAX_CAPTIONS,
    MAX_JSON_BYTES,
    Captions,
    as_one_caption,
    captions_in,
    clean,
    read_caption,
    same_name,
)


@pytest.mark.parametrize(
    ("values", "texts", "source"),
    [
        ({"caption": "a dog", "url": "x"}, ("a dog",), "key caption"),  # img2dataset
        ({"TEXT": "a dog"}, ("a dog",), "key text"),  # LAION
        ({"caption": "a dog", "tags": "grass, sun"}, ("a dog, grass, sun",), "keys caption and tags"),  # kohya-ss
        ({"caption": "A dog.", "tags": ["grass", "sun"]}, ("A dog, grass, sun",), "keys caption and tags"),
        ({"tags": ["dog", "grass", 5, "dog"]}, ("dog, grass",), "key tags"),  # gallery-dl
        ({"tags": {"dog": 0.9, "grass": 0.4}}, ("dog, grass",), "key tags"),  # taggers, with probabilities
        ({"tag_string": "1girl long_hair"}, ("1girl, long hair",), "key tag_string"),  # Danbooru
        ({"prompt": "a dog", "negativePrompt": "cat"}, ("a dog",), "key prompt"),
        ({"meta": {"prompt": "a dog", "seed": 5}}, ("a dog",), "key prompt in meta"),  # Civitai
        ({"captions": ["a dog", "one dog", "a dog", None]}, ("a dog", "one dog"), "key captions"),
        ({"caption": "a dog\n\na hound"}, ("a dog", "a hound"), "key caption"),
        ({"caption": None, "prompt": "a dog"}, ("a dog",), "key prompt"),
        ({"caption": 5, "text": "a dog"}, ("a dog",), "key text"),
    ],
)
def test_keys_of_other_programs(tmp_path: Path, values: object, texts: tuple[str, ...], source: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert read_caption(tmp_path / "a.json") == Captions(texts, source)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[1, 2]", "not a JSON object"),
        (b"{}", "none of the keys caption, captions"),
        (b'{"caption": 5}', "its caption is not text"),
        (b'{"caption": NaN}', "its caption is not text"),
        (b'{"caption": {"a": 1}}', "its caption is not text"),
        (b'{"caption": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"caption": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b'{"caption"', "not JSON"),
        (b" \n", "it is empty"),
        (b'""', "it is empty"),
        (b'{"Caption": ""}', "its caption is empty"),
        (b"\xff\x00\x01", "not text in UTF-8"),
        (b'{"caption": "' + b"x" * MAX_JSON_BYTES + b'"}', "larger than 1,024 KiB"),
    ],
)
def test_a_json_file_without_a_caption_says_why(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    found = read_caption(tmp_path / "a.json")
    assert found.texts == () and problem in found.problem


@pytest.mark.parametrize("content", [b"", b" \r\n\n", b"\xef\xbb\xbf"])
def test_an_empty_text_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert read_caption(tmp_path / "a.txt") == Captions(problem="it is empty")


def test_the_boxes_of_yolo_are_no_caption(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.5 .25 0.5 1\n12 0.512 0.4 1e-05 0.1 0.3 0.2\n")
    assert read_caption(tmp_path / "a.txt") == Captions(problem="it has the boxes of objects, not a caption")
    for text in ("1 2 3", "7 of 9 balls", "0 0.5 0.5 0.1 0.1\na dog"):
        (tmp_path / "a.txt").write_text(text)
        assert read_caption(tmp_path / "a.txt").texts


def test_json_with_a_byte_order_mark_and_a_mere_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"caption": "a dog"}')
    assert read_caption(tmp_path / "a.json").texts == ("a dog",)
    (tmp_path / "a.json").write_text('"a dog"')
    assert read_caption(tmp_path / "a.json").texts == ("a dog",)


def test_lines_are_alternatives_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "a.caption").write_text("\n".join(f"caption {number}" for number in range(100)))
    found = read_caption(tmp_path / "a.caption")
    assert len(found.texts) == MAX_CAPTIONS and "64 of its 100 lines" in found.problem


def test_nothing_that_a_tokenizer_cannot_take_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"caption": "a\\ud800 \\u0000dog\\u001b[31m"}')
    (text,) = read_caption(tmp_path / "a.json").texts
    assert text == "a? dog [31m" and text.encode()
    assert clean("  x\u00a0\ty\r\n") == "x y"


def test_a_row_without_captions_has_none_and_no_problem() -> None:
    assert captions_in({"caption": "", "tags": []}) == captions_in({"label": 3}) == Captions()


def test_composed_and_decomposed_names_are_the_same() -> None:
    assert same_name("Caf\u00e9") == same_name("cafe\u0301")


@pytest.mark.parametrize("text", ["A red,  Cat ", "a RED cat", "ＡＢＣ ﬁre", "Cafe\u0301 au lait, oui", "Straße", ""])
def test_captions_are_one_exactly_where_the_tokenizer_reads_them_alike(text: str) -> None:
    tokenizer = CaptionTokenizer.learn([text, "a red cat"], 300)
    same, other = as_one_caption(text), f"{as_one_caption(text)} x"
    assert (tokenizer.encode([text], 32) == tokenizer.encode([same], 32)).all() and as_one_caption(same) == same
    assert as_one_caption(other) != same and (tokenizer.encode([text], 32) != tokenizer.encode([other], 32)).any()
