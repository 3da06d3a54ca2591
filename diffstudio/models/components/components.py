"""The interface through which model families get their components, and its implementation for diffusers folders.

Families ask for components by diffusers' names: `unet`, `transformer`, `vae`, `text_encoder`, `text_encoder_2`,
`tokenizer`. Single files are in `single_file`; `open_components` chooses between the two. Nothing here downloads
anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import torch
from torch import nn

from diffstudio.errors import CheckpointDamaged, CheckpointMissing
from diffstudio.models.components.module_weights import missing_clause
from diffstudio.models.files.file_access import first_line, read_json_object
from diffstudio.models.files.formats import PICKLES, SAFETENSORS, WeightsFormat, variant, weights_format
from diffstudio.models.files.header import Headers

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before diffusers or transformers are imported, which read it then

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_M = TypeVar("_M", bound=nn.Module)
_T = TypeVar("_T", bound="PreTrainedTokenizerBase")


class Components(Protocol):
    """The network, VAE, text encoders and tokenizers of one checkpoint, by diffusers' names (`unet`, `text_encoder_2`,
    …).
    """

    on_tensor: Callable[[float], None]
    """Called while a component is read, with the share of it that is loaded, 0 to 1; not for diffusers folders."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about components that come from other files."""

    def complete(self) -> None:
        """Check that every required component is there, before anything large is read.

        CheckpointMissing names the absent ones.
        """

    def has(self, name: str) -> bool: ...

    def config(self, name: str) -> Mapping[str, Any]:
        """A component's configuration as diffusers writes it; also the `scheduler`'s.

        CheckpointMissing when it has none.
        """

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        """The component with its weights, on the CPU, in eval mode, without gradients.

        CheckpointMissing names what to put where; CheckpointDamaged when the weights do not match the configuration.
        """

    def tokenizer(self, name: str, kind: type[_T]) -> _T: ...


class BaseComponents:
    """Defaults of `Components` for storage that is always complete and reports no progress."""

    def __init__(self) -> None:
        self.on_tensor: Callable[[float], None] = _ignore

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def complete(self) -> None:
        """Nothing to check."""


class FolderComponents(BaseComponents):
    """A diffusers folder: `model_index.json` and one subfolder for each component."""

    def __init__(self, folder: Path, headers: Headers | None = None) -> None:
        super().__init__()
        self.folder, self._headers = folder, headers or Headers()

    def has(self, name: str) -> bool:
        return (self.folder / name).is_dir()

    def config(self, name: str) -> Mapping[str, Any]:
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        path = self.folder / name / file
        try:
            return read_json_object(path)
        except CheckpointMissing:
            raise _missing(self.folder, name) from None

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        """The plain variant if there are several, else the first that is not `non_ema`; pickles only without
        safetensors, by their suffixes. Files of that variant are read by their content.
        """
        if not self.has(name):
            raise _missing(self.folder, name)
        folder, load = self.folder / name, cast(Any, kind)
        kept = [
            path for path in sorted(folder.iterdir()) if path.name.endswith((*SAFETENSORS, ".safetensors.index.json"))
        ]
        pickles = [] if kept else sorted(path for path in folder.iterdir() if path.suffix in PICKLES)
        variants = sorted(
            {_variant(path) for path in kept or pickles}, key=lambda found: (bool(found), "non_ema" in found, found)
        )
        files = [path for path in kept or pickles if path.suffix != ".json" and _variant(path) == variants[0]]
        if any(
            path.suffix != SAFETENSORS[0] or weights_format(path) is not WeightsFormat.SAFETENSORS for path in files
        ):
            return _from_files(files, kind, dict(self.config(name)), dtype, self._headers)
        try:
            module: _M
            module, report = load.from_pretrained(
                folder,
                torch_dtype=dtype,
                variant=variants[0] or None if variants else None,
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
        except invalid_config_errors() as error:
            raise self._not_loadable(name, first_line(error)) from error
        if missing := sorted(report["missing_keys"]):  # both libraries only warn, and fill them with random values
            raise self._not_loadable(name, missing_clause(missing))
        return module.eval().requires_grad_(False)

    def _not_loadable(self, name: str, why: str) -> CheckpointDamaged:
        return CheckpointDamaged(f"The {name} of {self.folder.name} cannot be loaded", why, "Download it again")

    def tokenizer(self, name: str, kind: type[_T]) -> _T:
        if not self.has(name):
            raise _missing(self.folder, name)
        try:
            tokenizer: _T = kind.from_pretrained(self.folder / name, local_files_only=True)
        except invalid_config_errors() as error:
            raise self._not_loadable(name, first_line(error)) from error
        return tokenizer


def empty_module(kind: type[_M], config: Mapping[str, Any]) -> _M:
    """A module of diffusers' or transformers' class `kind` with its parameters on the meta device: shapes without
    memory.
    """
    from accelerate import init_empty_weights
    from transformers import PretrainedConfig, PreTrainedModel

    build: Any = kind
    with init_empty_weights(include_buffers=False), _without_initialization():
        if issubclass(kind, PreTrainedModel):
            described = {key: value for key, value in config.items() if key not in ("architectures", "model_type")}
            own: PretrainedConfig = build.config_class(**described)
            module: _M = build(own)
        else:
            module = build.from_config(dict(config))
    return module


def _without_initialization() -> AbstractContextManager[object]:
    """In this thread, the functions of `torch.nn.init` leave their tensors alone: on the meta device they take as long as
    building the modules.
    """
    from torch.overrides import TorchFunctionMode

    initializers = frozenset(function for function in vars(nn.init).values() if callable(function))

    class WithoutInitialization(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            named = kwargs or {}
            if func in initializers:
                return args[0] if args else named["tensor"]
            return func(*args, **named)

    return WithoutInitialization()


def invalid_config_errors() -> tuple[type[Exception], ...]:
    """The exceptions that diffusers and transformers raise for an invalid configuration; they have no class of their
    own.
    """
    from huggingface_hub.errors import StrictDataclassError

    return (
        OSError,
        ValueError,
        RuntimeError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        StrictDataclassError,
    )


def _variant(path: Path) -> str:
    """The `variant` argument of `from_pretrained`: `fp16` for `model.fp16.safetensors` and
    `model.safetensors.index.fp16.json`.
    """
    return (
        path.name.removesuffix(".json").partition(".safetensors.index")[2].lstrip(".") or variant(path)
        if ".safetensors.index" in path.name
        else variant(path)
    )


def _from_files(files: list[Path], kind: type[_M], config: dict[str, Any], dtype: torch.dtype, headers: Headers) -> _M:
    """A component in pickles (`pytorch_model.bin`, sharded or not), or in files whose suffixes are not those of their
    formats, which diffusers does not open. No code in the pickles is run.
    """
    from diffstudio.models.files.weights_reader import load_weights

    state = {
        name: value.to(dtype) if value.is_floating_point() else value
        for path in files
        for name, value in load_weights(path, headers.of(path)).items()
    }
    try:
        module = empty_module(kind, config)
    except invalid_config_errors() as error:
        raise CheckpointDamaged(
            f"The configuration of {files[0].name} is invalid", first_line(error), "Download it again"
        ) from error
    expected = module.state_dict()
    named = {
        key: next(
            (state[name] for name in (key, f"text_model.{key}", key.removeprefix("text_model.")) if name in state), None
        )
        for key in expected
    }
    wrong = next((key for key, value in named.items() if value is None or value.shape != expected[key].shape), None)
    if wrong is not None:
        raise CheckpointDamaged(
            f"The weights in {files[0].name} do not match its configuration",
            f"{wrong} is missing or has another shape",
            "Download it again",
        )
    module.load_state_dict(cast(Any, named), assign=True)
    return module.eval().requires_grad_(False)


def _ignore(share: float) -> None:
    """The default of `on_tensor`."""


def _missing(folder: Path, name: str) -> CheckpointMissing:
    return CheckpointMissing(
        f"{folder.name} has no {name}", f"{folder / name} does not exist", f"Put the {name} of the same model there"
    )


def incomplete(component: str, name: str) -> str:
    return f"The {component} of {name} is incomplete or damaged"
