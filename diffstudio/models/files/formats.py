"""The file formats of weights, by content and by suffix; and what a file is that has no weights in it. No torch.

The content counts first: browsers and hubs save web pages, error messages and Git LFS pointers under the name of the
model, people rename files, and other programs use the same suffixes for their own formats.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from diffstudio.errors import CheckpointDamaged, CheckpointProblem, CheckpointUnknown
from diffstudio.models.files.file_access import DOWNLOAD_AGAIN, damaged, not_weights, reading, regular_file_size

INDEX = "model_index.json"  # the file by which a diffusers folder is recognised
SAFETENSORS, PICKLES = (".safetensors", ".sft"), (".ckpt", ".pt", ".pth", ".bin")
SUFFIXES = (*SAFETENSORS, ".gguf", *PICKLES)

CHOOSE_ANOTHER_FILE = "Choose another file"
_UNPACK = "Unpack it, and choose the weights file in it"
_AS_SAFETENSORS = "Download the model as a safetensors file, for PyTorch"
_BEGINNING_BYTES = 4096
_LONGEST_HEADER_BYTES = 100_000_000  # of a safetensors file, by its specification
_LONGEST_REPLY_BYTES = 500  # of a server that refuses a file, without a page around it
_IF_A_REPLY = f"{DOWNLOAD_AGAIN} if a server sent that in place of the file; otherwise choose another file"
_FEW_CHARACTERS = 80  # of a text, that a message quotes


def variant(path: Path) -> str:
    """The variant in a file name: `fp16` of `model.fp16.safetensors` and its shards; empty for the plain one."""
    stem = re.sub(r"-\d{5}-of-\d{5}", "", path.stem)
    return stem.partition(".")[2]


class WeightsFormat(StrEnum):
    """A format that is read here, with its name in messages."""

    SAFETENSORS = "safetensors"
    GGUF = "GGUF"
    PICKLE = "pickle"  # and the zip and tar files that PyTorch packs pickles into


class OtherKind(NamedTuple):
    """What a file is that holds no weights in a format that is read here."""

    why: str  # a clause: it is a web page
    remedy: str
    is_failed_download: bool = False  # else it may be a healthy file

    def error(self, path: Path) -> CheckpointProblem:
        kind = CheckpointDamaged if self.is_failed_download else CheckpointUnknown
        return kind(not_weights(path), self.why, self.remedy)


def weights_format(path: Path) -> WeightsFormat:
    """The format of a file by its first bytes, and by its suffix where those do not tell.

    CheckpointMissing; CheckpointDamaged for an empty file and for what a server or a program left in place of the
    weights; CheckpointUnknown for a file of another kind.
    """
    with reading(path):
        size = regular_file_size(path)
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING_BYTES)
            file.seek(max(0, size - 8))
            end = file.read(8)
    by_suffix = _format_by_suffix(path)
    if not beginning:
        raise damaged(path, "it is empty", by_suffix or "")
    if (found := _format_by_content(beginning)) is not None:
        return found
    if (other := other_kind(path, beginning, end)) is not None:
        raise other.error(path)
    text = as_text(beginning)
    if text and not (by_suffix is WeightsFormat.PICKLE and end.endswith(b".") and _may_be_pickle(text)):
        raise _text(text, size).error(path)
    if by_suffix is None:
        raise CheckpointUnknown(not_weights(path), "its format is not known", CHOOSE_ANOTHER_FILE)
    return by_suffix


def _format_by_suffix(path: Path) -> WeightsFormat | None:
    suffix = path.suffix.lower()
    if suffix in SAFETENSORS:
        return WeightsFormat.SAFETENSORS
    return WeightsFormat.GGUF if suffix == ".gguf" else WeightsFormat.PICKLE if suffix in PICKLES else None


# A pickle of protocol 0 or 1, which has no magic number: a dict, a list, or a global that is called.
_OLD_PICKLE = re.compile(rb"\(?(?:[dl]p\d+\r?\n|[}\]]q.|[ci][A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n[(qp)}\]])", re.DOTALL)


def _may_be_pickle(text: str) -> bool:
    """Whether a text may be a pickle of protocol 0, by its first line: sentences have spaces, or only that line."""
    first, newline, _ = text.partition("\n")
    return " " not in first and (bool(newline) or len(first) > _FEW_CHARACTERS)


def _format_by_content(beginning: bytes) -> WeightsFormat | None:
    if beginning.startswith(b"GGUF"):
        return WeightsFormat.GGUF
    if beginning[8:9] == b"{" and 2 <= int.from_bytes(beginning[:8], "little") <= _LONGEST_HEADER_BYTES:
        return WeightsFormat.SAFETENSORS
    is_archive = beginning[:4] in (b"PK\3\4", b"PK\5\6") or beginning[257:262] == b"ustar"
    is_pickle = beginning[:1] == b"\x80" and beginning[1:2] <= b"\5"
    if is_archive or is_pickle or _OLD_PICKLE.match(beginning) is not None:
        return WeightsFormat.PICKLE
    return None


# ---- files without weights -------------------------------------------------------------------------------------------

_ARCHIVES = (
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"),
)
_NCNN = "an ncnn model"
_TENSORFLOW = "a TensorFlow model"
_CORE_ML = "a Core ML model"
_ONNX = "an ONNX model"
_OPENVINO = "an OpenVINO model"
_GGML = "a GGML file, which GGUF has replaced"
_OTHER_MODELS = (  # offset, first bytes, name
    (0, b"\x89HDF\r\n\x1a\n", "a Keras model or another HDF5 file"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x9d\x85\x76\0", _NCNN),  # the binary .param
    (0, b"\x47\x6b\x30\1", _NCNN),  # the tag of the first layer's weights: float16,
    (0, b"\x38\x4b\x0d\0", _NCNN),  # int8,
    (0, b"\x56\xc0\2\0", _NCNN),  # float32 with a scale
    (0, b"ftrt", "a TensorRT engine"),
    (0, b"ptrt", "a TensorRT engine"),
    (0, b"lmgg", _GGML),
    (0, b"fmgg", _GGML),
    (0, b"tjgg", _GGML),
)
_OTHER_FILES = (
    (0, b"\x89PNG\r\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL \r\n", "a JPEG XL image"),
    (0, b"8BPS", "a Photoshop document"),
    (8, b"AVI ", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (8, b"WAVE", "an audio file"),
    (0, b"fLaC", "an audio file"),
    (0, b"OggS", "an audio or video file"),
    (4, b"ftyp", "a video or an image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"SQLite format 3\0", "a database"),
)
_OF_LETTERS = (  # signatures that a text may begin with, with the bytes after them, which no text has
    (re.compile(rb"BM.{4}\0{4}", re.DOTALL), "a BMP image"),
    (re.compile(rb"ID3[\2-\4]"), "an audio file"),
)
_NAME_BY_SUFFIX = {  # where the content does not tell
    ".onnx": _ONNX,
    ".pb": _TENSORFLOW,
    ".tflite": "a TensorFlow Lite model",
    ".mlmodel": _CORE_ML,
    ".param": _NCNN,
    ".msgpack": "a Flax model",
    ".engine": "a TensorRT engine",
    ".caffemodel": "a Caffe model",
    ".mnn": "an MNN model",
}
# Of files that people take for weights, besides SUFFIXES; the error says what such a file is.
OTHER_SUFFIXES = (
    *_NAME_BY_SUFFIX,
    ".h5",
    ".keras",
    ".npz",
    ".zip",
    ".7z",
    ".rar",
    ".tar",
    ".gz",
    ".json",  # tokenizers, configurations
    ".model",  # SentencePiece
)
_TENSORFLOW_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # the end of a TensorFlow checkpoint's index
_GRAPH = re.compile(rb"\x0a.{1,4}\x0a.[\x20-\x7e]{1,200}\x12.[A-Z][A-Za-z0-9]{1,40}", re.DOTALL)
_SENTENCE_PIECES = re.compile(rb"\x0a.\x0a.<(?:pad|unk|s)>", re.DOTALL)
_TOKENIZER = OtherKind(
    "it is part of a tokenizer and has no weights",
    "Put the tokenizer.json of T5 or Qwen into `tokenizers/t5` or `tokenizers/qwen` of a models folder; other tokenizers "
    "are not needed",
)


def other_kind(path: Path, beginning: bytes, end: bytes = b"") -> OtherKind | None:
    """What a file is that holds no weights in a known format, by its first and last bytes and by files next to it; None
    where nothing tells.
    """
    if len(beginning) > 16 and not beginning.strip(b"\0"):
        return OtherKind("it begins with zeros, like a download that was not finished", DOWNLOAD_AGAIN, True)
    for start, name in _ARCHIVES:
        if beginning.startswith(start):
            return OtherKind(f"it is a {name} archive", _UNPACK)
    for offset, start, name in _OTHER_MODELS:
        if beginning[offset:].startswith(start):
            return _other_model(name)
    for offset, start, name in _OTHER_FILES:
        if beginning[offset:].startswith(start):
            return OtherKind(f"it is {name}", CHOOSE_ANOTHER_FILE)
    for pattern, name in _OF_LETTERS:
        if pattern.match(beginning) is not None:
            return OtherKind(f"it is {name}", CHOOSE_ANOTHER_FILE)
    if _SENTENCE_PIECES.match(beginning) is not None:
        return _TOKENIZER
    if name := _by_protobuf(beginning) or (_TENSORFLOW if end == _TENSORFLOW_TABLE else "") or _by_neighbour(path):
        return _other_model(name)
    if (found := _by_text(as_text(beginning))) is not None:
        return found
    return _other_model(name) if (name := _NAME_BY_SUFFIX.get(path.suffix.lower(), "")) else None


def _other_model(name: str) -> OtherKind:
    return OtherKind(f"it is {name}, which is not supported", _AS_SAFETENSORS)


def _by_protobuf(beginning: bytes) -> str:
    """ONNX: an integer (its version), then short texts. Core ML: an integer, then a message. TensorFlow's SavedModel: the
    integer 1, then a message; its graphs: nodes, each with its name and operation.
    """
    if _GRAPH.match(beginning) is not None:
        return _TENSORFLOW
    if len(beginning) < 16 or beginning[0] != 0x08 or not 0 < beginning[1] < 0x20:
        return ""
    if beginning[2] != 0x12:
        return _ONNX if beginning[2] in (0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42) else ""
    text = beginning[4 : 4 + min(beginning[3], 8)]
    if text.isascii() and text.decode().isprintable():
        return _ONNX
    return _TENSORFLOW if beginning[1] == 1 else _CORE_ML


def _by_neighbour(path: Path) -> str:
    """Bare numbers, which the file next to them describes."""
    if path.suffix.lower() != ".bin":
        return ""
    for suffix, name in ((".param", _NCNN), (".xml", _OPENVINO)):
        if path.with_suffix(suffix).is_file():
            return name
    return ""


# ---- texts -----------------------------------------------------------------------------------------------------------

_POINTER = re.compile(r"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/")
_WEB_PAGE = re.compile(
    r"(?:<\?xml[^>]*\?>\s*|<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|script|meta)\b", re.I | re.S
)
_PAGE = "a web page"
_TITLE = re.compile(r"<(?:title|message)>\s*([^<]+?)\s*</", re.I)
_JSON = re.compile(r"[{\[]\s*(?:[\"{\[\]}]|-?\d|true|false|null)")
_MESSAGE = re.compile(r'"(?:message|error|detail|error_description)"\s*:\s*"((?:[^"\\]|\\.)+)"', re.I)
_JSON_KINDS = (  # by a key
    (re.compile(r'"weight_map"\s*:'), "the index of a model in several files, not the model"),
    (re.compile(r'"peft_type"\s*:'), "the configuration of an adapter, not its weights"),
    (re.compile(r'"class_type"\s*:|"last_node_id"\s*:'), "a ComfyUI workflow"),
    (re.compile(r'"(?:_class_name|architectures|model_type|_diffusers_version)"\s*:'), "the configuration of a model"),
)
_TOKENIZER_JSON = re.compile(
    r'"(?:added_tokens|added_tokens_decoder|tokenizer_class|(?:bos|eos|unk|pad)_token|additional_special_tokens)"\s*:'
    r'|\{(?:\s*"(?:[^"\\]|\\.){1,20}"\s*:\s*\d+\s*,){2}'  # a vocabulary
)
_MERGES_OR_RANKS = re.compile(r"#version: |(?:\S+ \S+\r?\n){20}")  # pairs of pieces; tiktoken's pieces and numbers
_WORD_PIECES = re.compile(r"\[PAD\]\r?\n")  # a vocabulary of BERT


def as_text(beginning: bytes) -> str:
    """The first bytes of a file as text, stripped; empty if they are not UTF-8 or UTF-16, or not printable."""
    encoding = "utf-16" if beginning[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(beginning)  # whose last character may be incomplete
    except UnicodeDecodeError:
        return ""
    text = text.removeprefix("\ufeff").strip()
    return text if all(one.isprintable() or one.isspace() for one in text) else ""


def _by_text(text: str) -> OtherKind | None:
    if _POINTER.match(text) is not None:
        return OtherKind(
            "it is a Git LFS pointer, which stands for the file but does not hold it",
            "Download the file itself, or run `git lfs pull` in its folder",
            True,
        )
    if _WEB_PAGE.match(text) is not None:
        return _instead_of_it(_PAGE, text, _TITLE)
    if text.startswith(("<?xml", "<Error>", "<net ")):
        if re.search(r"<net\s", text) is not None:
            return _other_model(_OPENVINO)
        return _instead_of_it("an XML text", text, _TITLE)
    if text.startswith("7767517"):
        return _other_model(_NCNN)
    if _MERGES_OR_RANKS.match(text) is not None or _WORD_PIECES.match(text) is not None:
        return _TOKENIZER
    return _by_json(text) if _JSON.match(text) is not None else None


def _by_json(text: str) -> OtherKind:
    for pattern, name in _JSON_KINDS:
        if pattern.search(text) is not None:
            return OtherKind(f"it is {name}", CHOOSE_ANOTHER_FILE)
    if _TOKENIZER_JSON.search(text) is not None:
        return _TOKENIZER
    return _instead_of_it("a JSON text", text, _MESSAGE)


def _instead_of_it(name: str, text: str, message: re.Pattern[str]) -> OtherKind:
    """What a server sent in place of the file, with the message in it; a text without one may be anything."""
    found = message.search(text)
    if found is None and name != _PAGE:
        return OtherKind(f"it is {name}", CHOOSE_ANOTHER_FILE)
    quoted = f": {_quoted(found[1])}" if found is not None else ""
    return OtherKind(
        f"it is {name} that a server sent in place of the file{quoted}",
        f"{DOWNLOAD_AGAIN}; its site may ask you to sign in first",
        True,
    )


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line[:_FEW_CHARACTERS]}{'…' if len(line) > _FEW_CHARACTERS else ''}”"


def _text(text: str, size_bytes: int) -> OtherKind:
    """A text of no known kind: a short one may be what a server said."""
    why, may_be_a_reply = f"it is a text that begins {_quoted(text)}", size_bytes <= _LONGEST_REPLY_BYTES
    return OtherKind(why, _IF_A_REPLY if may_be_a_reply else CHOOSE_ANOTHER_FILE, may_be_a_reply)


# ---- archives --------------------------------------------------------------------------------------------------------


def archive_kind(container: str, names: Iterable[str]) -> OtherKind:
    """What a zip or tar file is, by the names of its members, that PyTorch did not write."""
    members = list(names)
    if members and all(name.endswith(".npy") for name in members):
        return _other_model("a file of NumPy arrays")
    if any(name.endswith(".weights.h5") for name in members):
        return _other_model("a Keras model")
    if any("com.apple.CoreML/" in name for name in members):
        return _other_model(_CORE_ML)
    article = f"a {container} file"
    if inside := next((name for name in members if name.lower().endswith(SUFFIXES)), ""):
        return OtherKind(f"it is {article} with {inside[:_FEW_CHARACTERS]} in it", _UNPACK)
    return OtherKind(f"it is {article}, but not one of PyTorch's", CHOOSE_ANOTHER_FILE)
