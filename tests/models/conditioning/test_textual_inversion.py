from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffstudio.errors import CheckpointDamaged, CheckpointProblem, CheckpointUnknown
from diffstudio.models.conditioning.prompt_weighting import encode_weighted
from diffstudio.models.conditioning.textual_inversion import (
    TextualInversion,
    TextualInversions,
    names_in_prompt,
    read_textual_inversion,
)
from tests.models import small
from tests.models.adapter_files import random, write

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # diffusers', with NumPy 2


def states(pipe: Any, embeddings: TextualInversions, prompt: str, number: str = "") -> Tensor:
    """[1,77,D] as Stable Diffusion 1 reads it."""
    encoder = getattr(pipe, f"text_encoder{number}")

    def encode(ids: Tensor) -> tuple[Tensor, Tensor | None]:
        out = encoder(ids)
        return out.last_hidden_state, getattr(out, "text_embeds", None)

    with torch.no_grad(), embeddings.injected_into(encoder):
        encoded = encode_weighted([prompt], embeddings.tokenizer(getattr(pipe, f"tokenizer{number}")), encode)
        return encoded.states if encoded.pooled is None else torch.cat((encoded.states[:, 0], encoded.pooled), 1)


@pytest.mark.parametrize("count", [1, 3])
def test_a_prompt_reads_as_with_diffusers(count: int, tmp_path: Path) -> None:
    theirs, ours = small.small_sd1(), small.small_sd1()
    vectors = random(count, 32, seed=1, scale=1.0)
    theirs.load_textual_inversion({"<mine>": vectors if count > 1 else vectors[0]}, token="my-style_2")
    expected, unwanted = theirs.encode_prompt("a photo of my-style_2 cat", "cpu", 1, True, "ugly my-style_2")
    embeddings = TextualInversions({"text_encoder": ours.text_encoder})
    assert (
        embeddings.use([read_textual_inversion(write(tmp_path / "my-style_2.safetensors", {"emb_params": vectors}))])
        == ()
    )
    torch.testing.assert_close(states(ours, embeddings, "a photo of My-Style_2 cat"), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(states(ours, embeddings, "ugly embedding:my-style_2"), unwanted, rtol=0, atol=1e-6)
    assert (states(ours, TextualInversions({}), "a photo of my-style_2 cat") - expected).abs().max() > 0.1


def test_the_end_of_a_prompt_is_found_where_it_is(tmp_path: Path) -> None:
    """Also by encoders that look for their largest token, which OpenAI's own do: their configuration says 2 for the
    end.
    """
    pipe = small.small_sdxl()
    word = pipe.tokenizer_2("cat", add_special_tokens=False).input_ids
    table = pipe.text_encoder_2.get_input_embeddings()
    same = TextualInversion("feline", {table.embedding_dim: table.weight.detach()[word].clone()})
    for end in (2, pipe.tokenizer_2.eos_token_id):
        pipe.text_encoder_2.text_model.eos_token_id = pipe.text_encoder_2.config.eos_token_id = end
        embeddings = TextualInversions({"text_encoder_2": pipe.text_encoder_2})
        expected = states(pipe, embeddings, "a cat, blue", "_2")
        embeddings.use([same])
        torch.testing.assert_close(states(pipe, embeddings, "a feline, blue", "_2"), expected)


def test_weights_and_chunks_hold_for_words_of_ones_own() -> None:
    pipe = small.small_sd1()
    table = pipe.text_encoder.get_input_embeddings()
    word = pipe.tokenizer("cat", add_special_tokens=False).input_ids
    embeddings = TextualInversions({"text_encoder": pipe.text_encoder})
    embeddings.use([TextualInversion("feline", {32: table.weight.detach()[word].clone()})])
    for prompt in ("(a {}:1.3) dog", "red " * 80 + "{}", "{}, {} BREAK {}"):
        plain = states(pipe, TextualInversions({}), prompt.replace("{}", "cat"))
        assert torch.equal(states(pipe, embeddings, prompt.replace("{}", "feline")), plain)


def test_nothing_is_left_in_tokenizer_and_encoder() -> None:
    pipe = small.small_sd1()
    before, size = states(pipe, TextualInversions({}), "a mine cat"), len(pipe.tokenizer)
    embeddings = TextualInversions({"text_encoder": pipe.text_encoder})
    embeddings.use([TextualInversion("mine", {32: random(2, 32)})])
    assert not torch.equal(states(pipe, embeddings, "a mine cat"), before)
    embeddings.use([])
    assert torch.equal(states(pipe, embeddings, "a mine cat"), before)
    assert len(pipe.tokenizer) == size and not pipe.text_encoder.get_input_embeddings()._forward_hooks
    with pytest.raises(RuntimeError):
        embeddings.use([TextualInversion("mine", {32: random(2, 32)})])
        with embeddings.injected_into(pipe.text_encoder):
            raise RuntimeError
    assert torch.equal(states(pipe, TextualInversions({}), "a mine cat"), before)


def test_one_for_other_encoders_says_so_and_stays_a_word() -> None:
    pipe = small.small_sdxl()
    embeddings = TextualInversions({"text_encoder": pipe.text_encoder, "text_encoder_2": pipe.text_encoder_2})
    (note,) = embeddings.use(
        [
            TextualInversion("half", {32: random(1, 32)}),
            TextualInversion("both", {32: random(2, 32), 40: random(2, 40)}),
        ]
    )
    assert "half does not fit" in note and "have 32 dimensions" in note and "use 32 and 40" in note
    assert embeddings.known == ("both",)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a bad-hands-5 thing", ["bad-hands-5"]),
        ("bad-hands, x", ["bad-hands"]),
        ("(BAD-hands:1.2)", ["bad-hands"]),
        ("embedding:cat", ["cat"]),
        ("concat cats cat_ cat-toy", []),
        ("bad-hands-5 cat bad-hands-5", ["bad-hands-5", "cat"]),
        ("", []),
    ],
)
def test_names_are_words_of_their_own(text: str, found: list[str]) -> None:
    assert names_in_prompt(text, ["cat", "bad-hands", "bad-hands-5"]) == found
    assert names_in_prompt(text, []) == []


@pytest.mark.parametrize(
    ("tensors", "widths"),
    [
        ({"emb_params": torch.ones(3, 768)}, {768}),
        ({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}, {768, 1280}),
        ({"<cat-toy>": torch.ones(768)}, {768}),
        ({"*": torch.ones(4, 1024)}, {1024}),
    ],
)
def test_files_of_all_kinds(tmp_path: Path, tensors: dict[str, Tensor], widths: set[int]) -> None:
    """As safetensors, as diffusers' `.bin`, and as AUTOMATIC1111's `.pt`, where the word lies among what its training
    left.
    """
    torch.save(tensors, tmp_path / "x.bin")
    torch.save(
        {
            "string_to_token": {"*": torch.tensor(265)},
            "name": "x",
            "step": 10,
            "sd_checkpoint": None,
            "string_to_param": torch.nn.ParameterDict(tensors),
        },
        tmp_path / "x.pt",
    )
    for path in (write(tmp_path / "x.safetensors", tensors), tmp_path / "x.bin", tmp_path / "x.pt"):
        found = read_textual_inversion(path)
        assert (
            found.name == "x"
            and set(found.vectors) == widths
            and all(bool((rows == 1).all()) for rows in found.vectors.values())
        )


@pytest.mark.parametrize(
    ("tensors", "kind"),
    [
        ({"a": torch.ones(3, 4, 5)}, CheckpointUnknown),
        ({"clip_l": torch.ones(2, 8), "clip_g": torch.ones(3, 9)}, CheckpointUnknown),
        ({"a": torch.ones(600, 8)}, CheckpointUnknown),
        ({"a": torch.tensor([[1.0, torch.nan]])}, CheckpointDamaged),
        ({"a": torch.ones(2, 8, dtype=torch.int64)}, CheckpointUnknown),
        ({"a": torch.ones(1, 8), "b": torch.ones(1, 8)}, CheckpointUnknown),
    ],
)
def test_what_is_no_word_is_refused(tensors: dict[str, Tensor], kind: type[CheckpointProblem], tmp_path: Path) -> None:
    with pytest.raises(kind):
        read_textual_inversion(write(tmp_path / "a.safetensors", tensors))
