"""Wildcards: expanded the same way each time, recorded in the image, with clear errors for invalid templates."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.events import Failed, ImageSaved
from diffstudio.studio.metadata import metadata
from diffstudio.studio.prompts import wildcards
from diffstudio.studio.prompts.wildcards import PromptVariants, escaped, expand, is_template
from diffstudio.studio.requests import GenerateRequest
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.a_studio import REQUEST, Studio


@pytest.fixture
def files(home: Path) -> Path:
    folder = paths.wildcards()
    (folder / "animals").mkdir(parents=True)
    (folder / "colour.txt").write_text("\ufeffred\n# not this\n\nblue 50%\n__shade__ grey\n", "utf-8")
    (folder / "shade.txt").write_text("dark\nlight\n")
    (folder / "animals" / "cats.txt").write_text("lion\ntiger\n")
    (folder / "animals" / "dogs.txt").write_text("wolf\n")
    (folder / "art.yaml").write_text("art:\n  style:\n    - 1000::oil\n    - ink\n")
    return folder


def drawn(text: str, times: int = 60) -> set[str]:
    return {expand(text, str(seed)) for seed in range(times)}


@pytest.mark.parametrize(
    ("template", "all_of_it"),
    [
        ("a {red|green} cat", {"a red cat", "a green cat"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{2$$a|b|c}", {"a,b", "a,c", "b,a", "b,c", "c,a", "c,b"}),
        ("{1-2$$ and $$a|b}", {"a", "b", "a and b", "b and a"}),
        ("__colour__!", {"red!", "blue 50%!", "dark grey!", "light grey!"}),
        ("__animals/*__", {"lion", "tiger", "wolf"}),
        ("__animals/{cats|dogs}__", {"lion", "tiger", "wolf"}),
        ("${x={a|b}}${x}{|.}", {"a", "b", "a.", "b."}),
        ("{!a|b} {@a|b}", {"a a", "a b", "b a", "b b"}),  # drawn at random like any other
        ("# said to nobody {\n{a}", {"\na"}),
    ],
)
def test_a_template_stands_for_these(files: Path, template: str, all_of_it: set[str]) -> None:
    assert drawn(template) == all_of_it


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("100% {a} for $5 #1 // b /* c", "100% a for $5 #1 // b /* c"),
        (r"\{a|b\} \_\_colour\_\_ {c}", "{a|b} __colour__ c"),
        ("snake_case a__b, c__d <lora:a__b:1><lora:c__d:1> {x}", "snake_case a__b, c__d <lora:a__b:1><lora:c__d:1> x"),
        ("(word:1.2) [less] :) BREAK {x}", "(word:1.2) [less] :) BREAK x"),
        ("two\n\n\tlines {x} } $$", "two\n\n\tlines x } $$"),
        ("no template, 100% (sure)", "no template, 100% (sure)"),
    ],
)
def test_what_is_no_template_stays_as_it_is(files: Path, text: str, meant: str) -> None:
    assert drawn(text, 3) == {meant}


def test_weights_in_files_count(files: Path) -> None:
    oils = [expand("__art/style__", str(seed)) for seed in range(50)]
    assert oils.count("oil") >= 45


@given(st.text(alphabet="a{}_\\|$%#, \t\n/*", max_size=40))
def test_what_is_escaped_means_itself(text: str) -> None:
    assert expand(escaped(text), "0") == text


@given(st.text(alphabet="ab{}|_$1:-= ", max_size=30))
def test_any_text_is_drawn_or_refused_in_a_sentence(text: str) -> None:
    try:
        expand(text, "0", Path("/nowhere"))
    except BadRequest as error:
        assert error.why
        assert error.remedy


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("__colours__", "The nearest name is __colour__"),
        ("__nothing__", "Put a file nothing.txt there"),
        ("__../art__", "There is no wildcard __../art__"),
        ("a {red|green", "the brace before 'red|green' is never closed"),
        ("{2$$a$$b$$c|d}", "syntax is invalid from"),
        ("${unset}", "unset is not defined"),
        ("__loop__", "contains itself"),
        ("{" * 3000 + "}" * 3000, "nested too deeply"),
        (
            "${a=x}"
            + "".join(
                f"${{{new}=${{{old}}}${{{old}}}}}"
                for old, new in zip("abcdefghijklmnopqrst", "bcdefghijklmnopqrstu", strict=True)
            )
            + "${u}",
            "contains itself",
        ),
        ("{" + "word " * 1000 + "}" + "__long__", "characters"),
    ],
)
def test_what_cannot_be_drawn_is_said(files: Path, template: str, message: str) -> None:
    (files / "loop.txt").write_text("a __loop__\n")
    (files / "long.txt").write_text("x" * 9000)
    with pytest.raises(BadRequest) as raised:
        expand(template, "0")
    assert message in str(raised.value)
    assert raised.value.remedy


def test_a_broken_file_is_named_when_something_is_missing(files: Path) -> None:
    (files / "bad.yaml").write_text("a: [")
    (files / "odd.json").write_text("{}}")
    assert drawn("__shade__", 20) == {"dark", "light"}
    with pytest.raises(BadRequest, match=r"bad\.yaml cannot be read"):
        expand("__elsewhere__", "0")


def test_each_image_has_words_of_its_own(files: Path) -> None:
    variants = PromptVariants(GenerateRequest(prompt="{a|b|c} {d|e|f}", negative="__colour__", seed=5, count=20))
    words = [variants.of(index) for index in range(20)]
    assert len({drawn_prompts.prompt for drawn_prompts in words}) > 3
    assert words == [variants.of(index) for index in range(20)]
    again = PromptVariants(GenerateRequest(prompt="{a|b|c} {d|e|f}", negative="__colour__", seed=8, count=1))
    assert again.of(0) == words[3]  # image 3 of seed 5 is image 0 of seed 8
    first = 0
    while first < 20:
        alike = variants.batch_size(first, 20 - first)
        assert {drawn_prompts.negative for drawn_prompts in words[first : first + alike]} == {words[first].negative}
        assert first + alike == 20 or words[first + alike].negative != words[first].negative
        first += alike


def test_pictures_say_what_they_were_told_and_come_back(studio: Studio, files: Path) -> None:
    request = replace(
        REQUEST, prompt=r"{red apple|rocket|purple heart|face} \{x\}", negative="__shade__", count=6, seed=3
    )
    job = studio.done(request)
    paths_made = [event.path for event in studio.of(job) if isinstance(event, ImageSaved)]
    pictures = [metadata.read(path) for path in paths_made]
    variants = PromptVariants(request)
    drawn_prompts = [variants.of(index) for index in range(6)]
    (files / "shade.txt").write_text("changed\n")  # the image's metadata have the expanded prompt
    for words, path, settings in zip(drawn_prompts, paths_made, pictures, strict=True):
        assert settings.asked == request
        assert expand(settings.request.prompt, "9") == words.prompt
        assert settings.request.negative == words.negative
        with Image.open(path) as image:
            text, record = image.info["parameters"], json.loads(image.info["diffstudio"])
        assert text.startswith(f"{words.prompt}\nNegative prompt: {words.negative}\n")
        assert "Negative Template: __shade__" in text
        assert record["image"]["prompt"] == words.prompt
    assert len({settings.request.prompt for settings in pictures}) > 1
    alone = studio.done(pictures[4].request)
    difference = np.abs(studio.pixels(alone)[0].astype(int) - studio.pixels(job)[4].astype(int)).max()
    assert difference <= 1  # in another batch
    twice = studio.done(pictures[4].request)
    assert np.array_equal(studio.pixels(alone)[0], studio.pixels(twice)[0])
    assert {image.request for image in studio.gallery.images()} >= {settings.request for settings in pictures}


def test_a_broken_template_fails_before_anything_is_loaded(studio: Studio) -> None:
    ending = studio.ending(studio.worker.submit(replace(REQUEST, prompt="{a|b")))
    assert isinstance(ending, Failed)
    assert "never closed" in str(ending.error)
    assert studio.kinds(ending.job) == ["Started", "Failed"]


def test_the_name_of_a_class_is_no_template(home: Path) -> None:
    from diffstudio.models.library.records import read_checkpoint

    checkpoint = read_checkpoint(
        write_tiny_checkpoint(paths.checkpoints() / "c.safetensors", conditioning=Conditioning.CLASS)
    )
    assert PromptVariants(GenerateRequest(prompt="a {b} __c__"), checkpoint).of(0).prompt == "a {b} __c__"


def test_a_plain_prompt_loads_no_library() -> None:
    code = (
        "import sys; from diffstudio.studio.prompts.wildcards import expand, is_template; assert expand('a (b:1.2) c_d', '0');"
        "assert not {'dynamicprompts', 'pyparsing', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not is_template("a (b:1.2) c_d 100% #x")


def test_two_thousand_draws_take_less_than_a_second(home: Path) -> None:
    expand("{a|b}", "0")  # imports the library
    began = time.process_time()
    found = [expand("{a|b}", str(seed)) for seed in range(2000)]
    variants = PromptVariants(GenerateRequest("{red|green} [cat|dog]", count=1000))
    found += [variants.of(index).prompt for index in range(1000)]
    assert time.process_time() - began < 1.5
    assert set(found) == {"a", "b", "red [cat|dog]", "green [cat|dog]"}


def test_files_are_read_again_when_they_change(files: Path) -> None:
    assert drawn("__shade__", 20) == {"dark", "light"}
    (files / "shade.txt").write_text("dim grey\n")
    assert drawn("__shade__", 5) == {"dim grey"}
    (files / "shade.txt").unlink()
    with pytest.raises(BadRequest, match="no wildcard __shade__"):
        expand("__shade__", "0")


def test_a_yaml_bomb_is_named_as_what_cannot_be_read(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    bomb = "\n".join(
        ["a: &a [x, x]", *(f"{to}: &{to} [*{of}, *{of}, *{of}, *{of}]" for of, to in pairwise("abcdefghijklmnop"))]
    )
    (files / "bomb.yaml").write_text(bomb)
    with pytest.raises(BadRequest, match=r"bomb\.yaml cannot be read \(its aliases describe too much\)"):
        expand("__p__", "0")
    assert drawn("__shade__", 20) == {"dark", "light"}  # the other files are not affected
    assert len(caplog.text) < 1000


def test_a_file_that_is_too_large_is_named_and_a_broken_link_is_passed_over(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wildcards, "_LARGEST_FILE_BYTES", 1 << 20)
    (files / "huge.txt").write_bytes(b"x\n" * (1 << 20))
    (files / "gone.txt").symlink_to(files / "nowhere")
    with pytest.raises(BadRequest, match=r"huge\.txt is larger than 1 MiB"):
        expand("__huge__", "0")


def test_text_files_of_other_encodings_are_read_or_named(files: Path) -> None:
    for encoding in ("utf-16", "utf-8-sig", "utf-8"):
        (files / "wine.txt").write_bytes("rosé\r\n\r\n rosé \r\n".encode(encoding))
        assert drawn("__wine__", 3) == {"rosé"}
        (files / "wine.txt").unlink()
    (files / "wine.txt").write_bytes("rosé\n".encode("cp1252"))
    with pytest.raises(BadRequest, match=r"wine\.txt is not UTF-8 text"):
        expand("a __wine__", "0")
    (files / "lists.json").write_bytes('{"glass": ["rosé"]}'.encode("utf-16"))
    assert drawn("__glass__", 1) == {"rosé"}
