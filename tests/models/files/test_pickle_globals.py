"""Globals of pickles: part of weights, dangerous, or neither."""

from __future__ import annotations

import pytest

from diffstudio.models.files.pickle_globals import GlobalKind, classify


@pytest.mark.parametrize(
    ("module", "name", "kind"),
    [
        ("torch", "HalfStorage", GlobalKind.ALLOWED),
        ("torch._utils", "_rebuild_tensor_v2", GlobalKind.ALLOWED),
        ("collections", "OrderedDict", GlobalKind.ALLOWED),
        ("numpy.core.multiarray", "scalar", GlobalKind.ALLOWED),
        ("builtins", "set", GlobalKind.ALLOWED),
        ("_codecs", "encode", GlobalKind.ALLOWED),
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", GlobalKind.UNKNOWN),
        ("torch.optim.adam", "Adam", GlobalKind.UNKNOWN),
        ("omegaconf.listconfig", "ListConfig", GlobalKind.UNKNOWN),
        ("functools", "partial", GlobalKind.UNKNOWN),
        ("pathlib", "PosixPath", GlobalKind.UNKNOWN),
        ("os", "system", GlobalKind.DANGEROUS),
        ("os.path", "join", GlobalKind.DANGEROUS),
        ("builtins", "open", GlobalKind.DANGEROUS),
        ("mymodule", "__builtins__.eval", GlobalKind.DANGEROUS),
        ("torch._dynamo.guards", "GuardBuilder.get", GlobalKind.DANGEROUS),
        ("operator", "attrgetter", GlobalKind.DANGEROUS),
        ("torch", "load", GlobalKind.DANGEROUS),
        ("types", "CodeType", GlobalKind.DANGEROUS),
        ("logging.config", "dictConfig", GlobalKind.DANGEROUS),  # a dangerous module in a package that is not
        ("logging", "config", GlobalKind.UNKNOWN),
        ("importlib.abc.x", "Y", GlobalKind.DANGEROUS),
        ("mine.importlib", "Y", GlobalKind.UNKNOWN),
        ("torch.jit", "x", GlobalKind.DANGEROUS),
        ("torch.jit.frontend", "x", GlobalKind.DANGEROUS),
        ("torch.jitter", "x", GlobalKind.UNKNOWN),
        ("torch.serialization", "os.system", GlobalKind.DANGEROUS),
        ("mine", "os.path", GlobalKind.DANGEROUS),
        ("mine", "os", GlobalKind.UNKNOWN),
        ("mine", "path.os", GlobalKind.UNKNOWN),
        ("mine", "a.eval.b", GlobalKind.DANGEROUS),
        ("mine.eval", "b", GlobalKind.DANGEROUS),
        ("mine", "evaluate", GlobalKind.UNKNOWN),
        ("torch", "HalfStorage.x", GlobalKind.UNKNOWN),
    ],
)
def test_names_are_sorted(module: str, name: str, kind: GlobalKind) -> None:
    assert classify(module, name) is kind


def test_all_that_pytorch_allows_is_allowed_or_unknown_here() -> None:
    """PyTorch's own list for `weights_only`: none of it is thought dangerous."""
    from torch._weights_only_unpickler import _get_allowed_globals

    wrong = [full for full in _get_allowed_globals() if classify(*full.rpartition(".")[::2]) is GlobalKind.DANGEROUS]
    assert wrong == []


def test_kinds_are_in_the_order_of_danger() -> None:
    assert GlobalKind.ALLOWED < GlobalKind.UNKNOWN < GlobalKind.DANGEROUS
