"""Links become the addresses of files, as the sites themselves document them."""

from __future__ import annotations

import pytest

from diffstudio.errors import BadRequest
from diffstudio.studio.library.links import parse_link

HF = "https://huggingface.co"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://example.org/a/model.safetensors", "https://example.org/a/model.safetensors"),
        ("  https://example.org/a/model.\nsafetensors#top ", "https://example.org/a/model.safetensors"),
        ("http://127.0.0.1:8000/x.ckpt?key=1", "http://127.0.0.1:8000/x.ckpt?key=1"),
        ("https://example.org/my model.gguf", "https://example.org/my%20model.gguf"),
        ("https://example.org/my%20model.gguf", "https://example.org/my%20model.gguf"),
        (f"{HF}/org/repo/blob/main/a.safetensors", f"{HF}/org/repo/resolve/main/a.safetensors"),
        (f"{HF}/org/repo/resolve/main/sub/a.gguf?download=true", f"{HF}/org/repo/resolve/main/sub/a.gguf"),
        (f"{HF}/org/repo/raw/main/a.safetensors", f"{HF}/org/repo/resolve/main/a.safetensors"),
        (f"{HF}/gpt2/blob/main/model.safetensors", f"{HF}/gpt2/resolve/main/model.safetensors"),
        (f"{HF}/datasets/o/r/blob/main/x.pt", f"{HF}/datasets/o/r/resolve/main/x.pt"),
        ("huggingface.co/org/repo/blob/main/a.safetensors", f"{HF}/org/repo/resolve/main/a.safetensors"),
        ("https://civitai.com/api/download/models/42", "https://civitai.com/api/download/models/42"),
        (
            "https://civitai.com/api/download/models/42?type=Model&format=SafeTensor",
            "https://civitai.com/api/download/models/42?type=Model&format=SafeTensor",
        ),
        ("https://civitai.com/models/7/a-model?modelVersionId=42", "https://civitai.com/api/download/models/42"),
        ("https://civitai.com/model-versions/42", "https://civitai.com/api/download/models/42"),
        ("https://github.com/o/r/blob/main/a.pth", "https://github.com/o/r/raw/main/a.pth"),
        ("https://github.com/o/r/releases/download/v1/a.pth", "https://github.com/o/r/releases/download/v1/a.pth"),
        ("https://www.dropbox.com/s/abc/a.ckpt?dl=0", "https://www.dropbox.com/s/abc/a.ckpt?dl=1"),
    ],
)
def test_a_link_becomes_the_address_of_the_file(text: str, url: str) -> None:
    assert parse_link(text).url == url


def test_the_host_and_the_name_are_those_of_the_link() -> None:
    link = parse_link("https://Example.org:8443/a/my%20model.gguf")
    assert (link.host, link.name) == ("example.org:8443", "my model.gguf")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a link"),
        ("model.safetensors", "not a link"),
        ("file:///etc/passwd", "not a link"),
        ("ftp://example.org/a.ckpt", "not a link"),
        ("https:///a.ckpt", "not a link"),
        ("https://[broken/a.ckpt", "not a link"),
        ("https://example.org:99999999/a.ckpt", "not a link"),
        ("https://user:secret@example.org/a.ckpt", "user name or a password"),
        ("https://huggingface.co@evil.example/a/b/resolve/main/a.ckpt", "user name or a password"),
        ("https://example.org", "home page of example.org"),
        (f"{HF}/org/repo", "page of huggingface.co"),
        (f"{HF}/org/repo/tree/main", "page of huggingface.co"),
        ("https://civitai.com/models/7/a-model", "names no version"),
        ("https://example.org/" + "a" * 5000, "not a link"),
    ],
)
def test_what_is_not_a_file_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(BadRequest, match=why) as caught:
        parse_link(text)
    assert caught.value.remedy
