"""An attribute that is read by a constant name is a member to declare: mypy does not see `getattr`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import diffstudio

PACKAGE = Path(diffstudio.__file__).resolve().parent
LOOKUPS = ("getattr", "hasattr", "setattr", "delattr")
# Attributes that objects of other libraries have in some of their classes or on some systems.
JUSTIFIED = {
    ("storage_errors.py", "EDQUOT"): "errno has it on POSIX only",
    ("storage_errors.py", "sqlite_errorcode"): "sqlite3 sets it for errors of SQLite, not for its own",
    ("models/adapters/adapters.py", "quant_type"): "weights that diffusers or bitsandbytes packed",
    ("models/families/pipelines/diffusers_pipeline.py", "config"): "diffusers' networks",
    ("models/families/pipelines/diffusers_pipeline.py", "default_sample_size"): "diffusers' pipelines",
    ("models/families/pipelines/stepped_pipeline.py", "images"): "what diffusers' pipelines return",
    ("models/families/pipelines/diffusers_pipeline.py", "vae_scale_factor"): "diffusers' pipelines",
    ("models/families/latent.py", "shift_factor"): "the configurations of diffusers' VAEs",
    ("models/families/pipelines/pipeline_stepper.py", "config"): "diffusers' schedulers",
    ("models/families/pipelines/pipeline_stepper.py", "model_outputs"): "diffusers' schedulers",
    ("models/families/pipelines/pipeline_stepper.py", "pred_original_sample"): "what diffusers' schedulers return",
    ("models/families/pipelines/pipeline_stepper.py", "sigmas"): "diffusers' schedulers",
    ("models/families/pipelines/pipeline_stepper.py", "step_index"): "diffusers' schedulers",
    ("models/families/stable_diffusion.py", "text_embeds"): "what transformers' text encoders return",
    ("models/families/z_image.py", "chat_template"): "transformers' tokenizers",
    ("training/distributed/sharding.py", "full_tensor"): "torch's DTensor, whose module takes a second to import",
    ("studio/prompts/wildcard_lists.py", "CSafeLoader"): "PyYAML has it where it was built with libyaml",
}


def constant_lookups(tree: ast.Module) -> Iterator[str]:
    """The attributes that are looked up by a constant name."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=function), args=[_, ast.Constant(value=str(name)), *_]):
                if function in LOOKUPS:
                    yield name


def test_constant_lookups_are_found() -> None:
    code = "getattr(model, 'notes', ())\nhasattr(self, '_tone')\ngetattr(model, name)\nmodel.notes\nlen('notes')"
    assert list(constant_lookups(ast.parse(code))) == ["notes", "_tone"]


def test_every_member_of_our_own_objects_is_declared() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        for name in constant_lookups(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found - JUSTIFIED.keys() == set()
    assert JUSTIFIED.keys() - found == set()  # the list holds no more than there is
