"""Read rows of the tensors in a weights file, quantized (fp8 with scales, GGUF blocks) or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from diffstudio.errors import CheckpointUnknown
from diffstudio.models.files.file_access import damaged, not_read
from diffstudio.models.files.gguf_header import GgufHeader, read_gguf_header
from diffstudio.models.files.header import Header, read_header
from diffstudio.models.files.quantized import FLOAT8_DTYPES, QuantizedTensor, can_dequantize, concatenate
from diffstudio.models.files.weights_reader import WeightsFile, open_weights
from diffstudio.models.state_dicts.prefixes import FP8_SCALES, NOT_WEIGHTS, QUANTIZATION_FORMAT

_PLAIN_FLOAT8 = (
    "float8_e4m3fn",
    "float8_e5m2",
)  # of the ways to pack that ComfyUI writes beside a weight, those read here


class TensorRows(Protocol):
    """The tensors of one open file."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of the weights, without scales and other helper tensors."""

    def rows(self, name: str, start: int, stop: int) -> Tensor | QuantizedTensor:
        """Rows `start` to `stop` of a tensor; a scalar as a whole. CheckpointDamaged."""


class FileWeights:
    """The tensors of a safetensors file or a pickle. They stay memory-mapped until they are cast or first used."""

    def __init__(self, file: WeightsFile) -> None:
        self._file = file
        names = file.names()
        self._scales = {
            name.removesuffix(suffix) + ".weight": name
            for name in names
            for suffix in FP8_SCALES
            if name.endswith(suffix)
        }
        self._formats = {
            name.removesuffix(QUANTIZATION_FORMAT) + ".weight": name
            for name in names
            if name.endswith(QUANTIZATION_FORMAT)
        }
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(file.shape(name)) for name in names if not name.endswith((*NOT_WEIGHTS, *FP8_SCALES))
        }

    def rows(self, name: str, start: int, stop: int) -> Tensor | QuantizedTensor:
        if name in self._formats:
            self._check_format(name)
        tensor = self._file.get_tensor(name)
        tensor = tensor[start:stop] if tensor.ndim and (start, stop) != (0, len(tensor)) else tensor
        scale = self._file.get_tensor(self._scales[name]).float() if name in self._scales else None
        if scale is not None and scale.numel() > 1:
            scale = scale.reshape(-1, 1)[start:stop]  # one scale per row
        elif scale is not None:
            scale = scale.reshape(())
        if tensor.dtype in FLOAT8_DTYPES and tensor.ndim == 2:
            return QuantizedTensor(tensor.contiguous().view(torch.uint8), tensor.dtype, scale)
        if scale is None:
            return tensor
        return tensor.float() * (scale if scale.ndim == 0 else scale.reshape(-1, *(1,) * (tensor.ndim - 1)))

    def _check_format(self, name: str) -> None:
        try:
            quantization = json.loads(bytes(self._file.get_tensor(self._formats[name]).tolist()))["format"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise damaged(self._file.path, f"it has no valid quantization format for {name}") from error
        if quantization not in _PLAIN_FLOAT8:
            raise CheckpointUnknown(
                _unsupported(self._file.path),
                f"its weights are quantized as {str(quantization)[:40]}",
                "Download it in fp16, bf16 or fp8",
            )


class GgufWeights:
    """The tensors of a memory-mapped `.gguf` file.

    Types that diffusers can dequantize stay packed, all others are dequantized at once.
    """

    def __init__(self, path: Path, header: GgufHeader | None = None) -> None:
        import gguf

        self._path = path
        header = header or read_gguf_header(path)  # which checks every length before gguf relies on it
        if header.is_language_model:
            raise CheckpointUnknown(
                f"{path.name} cannot be used",
                "language models in GGUF files are not supported",
                "Download the text encoder as .safetensors",
            )
        try:
            self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        except (
            OSError,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            AttributeError,
            OverflowError,
            MemoryError,
        ) as error:
            raise not_read(path, error) from error
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: header.shapes[name]
            for name in self._tensors
            if name in header.shapes and not name.endswith(NOT_WEIGHTS)
        }

    def rows(self, name: str, start: int, stop: int) -> Tensor | QuantizedTensor:
        """Copied into memory: all values are needed, and the file may be replaced meanwhile."""
        import gguf

        tensor, shape, types = self._tensors[name], self.shapes[name], gguf.GGMLQuantizationType
        kind, data = types(tensor.tensor_type), tensor.data
        by_rows = (
            len(shape) == 2 and tensor.data.ndim == 2 and len(data) == shape[0]
        )  # a matrix whose rows are separate blocks
        data = data[start:stop] if by_rows else data
        shape = (stop - start, *shape[1:]) if by_rows else shape
        if kind in (types.F32, types.F16, types.F64):
            found: Tensor | QuantizedTensor = torch.tensor(data)
        elif kind is types.BF16:
            found = torch.tensor(data).view(torch.bfloat16)
        elif can_dequantize(int(kind)):
            found = QuantizedTensor(torch.tensor(data.reshape(-1, data.shape[-1])), int(kind))
        else:
            found = self._dequantized(data, kind, name)
        if isinstance(found, QuantizedTensor):
            if by_rows:
                return found
            found = found.dense(torch.float32)
        return found.reshape(shape) if by_rows or not shape else found.reshape(shape)[start:stop]

    def _dequantized(self, blocks: Any, kind: Any, name: str) -> Tensor:
        import gguf

        try:
            return torch.tensor(gguf.quants.dequantize(blocks, kind))
        except (NotImplementedError, KeyError, ValueError) as error:
            raise CheckpointUnknown(
                _unsupported(self._path),
                f"{name} is quantized as {kind.name}",
                "Download it in another quantization, Q8_0 or Q4_K",
            ) from error


def _unsupported(path: Path) -> str:
    return f"{path.name} has an unsupported quantization"


def open_rows(path: Path, header: Header | None = None) -> TensorRows:
    """`header` is the file's, where it was read already.

    CheckpointMissing, CheckpointDamaged, CheckpointUnknown, CheckpointDangerous.
    """
    header = header if header is not None and header.is_of(path) else read_header(path)
    if isinstance(header.content, GgufHeader):
        return GgufWeights(path, header.content)
    return FileWeights(open_weights(path, header))


def combine_rows(tensors: list[Tensor | QuantizedTensor], dtype: torch.dtype, packed: bool) -> Tensor | QuantizedTensor:
    """Concatenate along the rows, in `dtype`; still packed if `packed` is true and all tensors are of one type."""
    quantized = [one for one in tensors if isinstance(one, QuantizedTensor)]
    if (
        packed
        and len(quantized) == len(tensors)
        and len({one.kind for one in quantized}) == 1
        and all((one.scale is None) == (quantized[0].scale is None) for one in quantized)
    ):
        return concatenate(quantized)
    dense = [
        one.dense(dtype) if isinstance(one, QuantizedTensor) else one.to(dtype) if one.is_floating_point() else one
        for one in tensors
    ]
    return dense[0] if len(dense) == 1 else torch.cat(dense)
