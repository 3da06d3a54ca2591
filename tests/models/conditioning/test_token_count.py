"""Tokens counted without torch are those that the families read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from diffstudio.models.conditioning import token_count
from diffstudio.models.conditioning.prompt_weighting import TokenCount
from diffstudio.models.conditioning.token_count import count_prompt_tokens, supports_prompt_weights
from diffstudio.models.detection.types import Layout
from diffstudio.models.library.records import read_checkpoint
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.samples import checkpoint

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.:;()[]!'"
MERGES = [("c", "a"), ("ca", "t</w>"), ("'", "s</w>"), ("d", "o"), ("(", "(</w>")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A diffusers folder with a CLIP tokenizer of a few words, and one of T5's kind."""
    clip, t5 = tmp_path / "tokenizer", tmp_path / "tokenizer_2"
    clip.mkdir()
    t5.mkdir()
    words = [
        *LETTERS,
        *(f"{letter}</w>" for letter in LETTERS),
        *("".join(pair) for pair in MERGES),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (clip / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (clip / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in MERGES))
    letters = Tokenizer(models.WordLevel({"?": 0, "a": 1, "cat": 2}, unk_token="?"))
    letters.pre_tokenizer = pre_tokenizers.Whitespace()
    letters.save(str(t5 / "tokenizer.json"))
    return tmp_path


def test_clip_is_counted_as_transformers_reads_it(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import CLIPTokenizer

    theirs = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    of = checkpoint("sd", path=folder, family="sd1", layout=Layout.FOLDER, metadata={})
    for text in ("", "cat", "A CAT's  dog,\ncat", "don't 42, ca((t", "<|endoftext|> cat", "x" * 90):
        used = len(theirs(text, add_special_tokens=False).input_ids)
        chunks = max(1, -(-used // 75))
        assert count_prompt_tokens(of, text.replace("(", r"\(")) == TokenCount(used, 75 * chunks, chunks)
    assert count_prompt_tokens(of, "(cat:1.3) BREAK dog") == TokenCount(3, 150, 2)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_single_file_is_counted_with_the_vocabulary_that_ships(family: str, tmp_path: Path) -> None:
    from tests.models.small_files import words

    clip = words()
    of = checkpoint("sd", path=tmp_path / "sd.safetensors", family=family, layout=Layout.ORIGINAL, metadata={})
    for text in ("a photo of an astronaut, 8k!!", "Größe 42 café", "don't"):
        assert count_prompt_tokens(of, text) == TokenCount(len(clip(text, add_special_tokens=False).input_ids), 75, 1)


def test_what_flux_cuts_is_counted_by_its_second_tokenizer(folder: Path) -> None:
    of = checkpoint("flux", path=folder, family="flux", layout=Layout.FOLDER, metadata={})
    assert count_prompt_tokens(of, "a cat") == TokenCount(2, 511)
    long = "a " * 600
    count = count_prompt_tokens(of, long)
    assert count is not None
    assert (count.used, count.cut) == (600, (1022, 1199))


@pytest.mark.parametrize(
    ("family", "edition", "tokenizer", "longest"),
    [
        ("flux", "schnell", "tokenizer_2", 255),
        ("sd3", "", "tokenizer_3", 255),
        ("z_image", "", "tokenizer", 509),
        ("qwen_image", "", "tokenizer", 512),
    ],
)
def test_the_limit_is_that_of_the_family_and_edition(
    folder: Path, family: str, edition: str, tokenizer: str, longest: int
) -> None:
    (folder / "text_encoder_3").mkdir()
    (folder / tokenizer).mkdir(exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).unlink()
    if tokenizer != "tokenizer_2":
        shutil.copy(folder / "tokenizer_2" / "tokenizer.json", folder / tokenizer)
    of = checkpoint("x", path=folder, family=family, edition=edition, layout=Layout.FOLDER, metadata={})
    assert count_prompt_tokens(of, "a cat") == TokenCount(2, longest)


def test_stable_diffusion_3_without_t5_reads_what_clip_reads(folder: Path) -> None:
    of = checkpoint("x", path=folder, family="sd3", layout=Layout.FOLDER, metadata={})
    count = count_prompt_tokens(of, "cat " * 80)
    assert count is not None and (count.used, count.room, count.cut) == (80, 75, (300, 319))


def test_what_is_not_at_hand_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_count, "_shipped_clip", lambda: None)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.json").write_text("{")
    assert (
        count_prompt_tokens(
            checkpoint("sd", path=tmp_path, family="sd1", layout=Layout.FOLDER, metadata={}, modified=1.0), "a"
        )
        is None
    )
    assert (
        count_prompt_tokens(checkpoint("z", path=tmp_path, family="unknown", layout=Layout.FOLDER, metadata={}), "a")
        is None
    )


def test_the_checkpoints_made_here_are_counted_by_their_own(tmp_path: Path) -> None:
    of = read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors"))
    assert count_prompt_tokens(of, "red apple, fruit") == TokenCount(3, 4)
    assert not supports_prompt_weights(of)
    assert supports_prompt_weights(checkpoint("sd", family="sdxl"))


def test_no_torch_is_loaded_for_it(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    code = (
        "import sys; from pathlib import Path; from diffstudio.models.library.records import read_checkpoint;"
        "from diffstudio.studio.prompts.token_count import count_tokens; tiny = read_checkpoint(Path(sys.argv[1]));"
        "assert count_tokens(tiny, 'red apple').tokens.used == 2;"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
