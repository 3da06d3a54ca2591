"""Pieces that a person asked to be fetched: from public places that want no account, and never without being asked. No torch.

The rest of the program tells huggingface_hub that there is no network, for good. So it is a process of its own that goes there, with
this module as its program; it says how far it is in lines of JSON, is ended when nobody wants it any more, and another goes on where
it stopped. A file is given its name when all of it is there and its SHA-256 is what the place says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio.atomic import replace
from diffstudio.errors import BadRequest, CheckpointMissing, Interrupted, StorageProblem
from diffstudio.models.components.requirements import COMPONENT_KINDS

_STAGE = ".fetching"  # hidden, so that no scan of the models looks into it
_CHUNK_BYTES = 8 << 20
_PATIENCE_SECONDS = 10.0  # for the process to end when it is asked to


@dataclass(frozen=True, slots=True)
class Origin:
    """A file on huggingface.co, and about how large it is."""

    repository: str
    file: str
    about_bytes: int

    @property
    def name(self) -> str:
        return self.file.rpartition("/")[2]


_COMFY_FLUX, _COMFY_Z, _COMFY_QWEN = (
    "comfyanonymous/flux_text_encoders",
    "Comfy-Org/z_image_turbo",
    "Comfy-Org/Qwen-Image_ComfyUI",
)
ORIGINS: Mapping[str, tuple[Origin, ...]] = {  # piece -> its files; what only lies behind an account is not here
    "clip_l": (Origin(_COMFY_FLUX, "clip_l.safetensors", 246_144_152),),
    "clip_g": (Origin("Comfy-Org/stable-diffusion-3.5-fp8", "text_encoders/clip_g.safetensors", 1_389_382_176),),
    "t5": (Origin(_COMFY_FLUX, "t5xxl_fp16.safetensors", 9_787_841_024),),
    "qwen3": (Origin(_COMFY_Z, "split_files/text_encoders/qwen_3_4b.safetensors", 8_044_982_048),),
    "qwen2.5-vl": (
        Origin(_COMFY_QWEN, "split_files/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", 9_384_670_680),
    ),
    "vae-sd": (Origin("stabilityai/sd-vae-ft-mse-original", "vae-ft-mse-840000-ema-pruned.safetensors", 334_641_190),),
    "vae-sdxl": (Origin("stabilityai/sdxl-vae", "sdxl_vae.safetensors", 334_641_164),),
    "vae-flux": (Origin(_COMFY_Z, "split_files/vae/ae.safetensors", 335_304_388),),
    "vae-qwen": (Origin(_COMFY_QWEN, "split_files/vae/qwen_image_vae.safetensors", 253_806_246),),
    "tokenizer-t5": (Origin("google-t5/t5-base", "tokenizer.json", 1_389_353),),
    "tokenizer-qwen": (
        Origin("Qwen/Qwen3-4B", "tokenizer.json", 11_422_654),
        Origin("Qwen/Qwen3-4B", "tokenizer_config.json", 9_732),
    ),
}


def fetchable(pieces: Sequence[str]) -> tuple[str, ...]:
    """Those that have a public place."""
    return tuple(piece for piece in pieces if piece in ORIGINS)


def about_bytes(pieces: Sequence[str]) -> int:
    return sum(origin.about_bytes for piece in pieces for origin in ORIGINS.get(piece, ()))


def repositories(pieces: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(origin.repository for piece in pieces for origin in ORIGINS.get(piece, ())))


def fetch(
    piece: str,
    home: Path,
    on_progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Path]:
    """The piece's files in their folder below `home`, the folder of models; `on_progress` hears bytes so far, and of how many.

    BadRequest for a piece without a public place, CheckpointMissing where that cannot be reached or is not what it says,
    StorageProblem for want of room, Interrupted soon after `cancelled()` becomes true: then what is there is kept.
    """
    if piece not in ORIGINS:
        known = f"Those that can be: {', '.join(ORIGINS)}"
        raise BadRequest(
            f"{COMPONENT_KINDS[piece].title if piece in COMPONENT_KINDS else repr(piece[:40])} cannot be fetched",
            "there is no public place for it that is known here",
            known,
        )
    done: list[Path] = []
    for origin in ORIGINS[piece]:
        target = home / COMPONENT_KINDS[piece].folder / origin.name
        if not target.exists():
            _fetch_file(piece, origin, home, target, on_progress or _nobody, cancelled or _never)
        done.append(target)
    return done


def _fetch_file(
    piece: str,
    origin: Origin,
    home: Path,
    target: Path,
    on_progress: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> None:
    stage = home / _STAGE / origin.repository.replace("/", "--")
    try:
        stage.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageProblem(
            f"{home} cannot be written to", error.strerror or str(error), "Choose another folder of models"
        ) from error
    told = _Told(piece, stage, on_progress)
    with subprocess.Popen(
        [sys.executable, "-m", __name__, origin.repository, origin.file, str(stage)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=_online(),
    ) as process:
        try:
            _listen(process, told, cancelled)
        finally:
            _end(process)
    if told.file is None:
        raise told.problem or CheckpointMissing(
            f"The {COMPONENT_KINDS[piece].title} could not be fetched",
            "the connection broke off",
            "Try again: it goes on where it stopped",
        )
    replace(told.file, target)
    shutil.rmtree(stage, ignore_errors=True)
    with contextlib.suppress(OSError):
        stage.parent.rmdir()  # unless something else is being fetched


class _Told:
    """What the process says, a line of JSON at a time."""

    def __init__(self, piece: str, stage: Path, on_progress: Callable[[int, int], None]) -> None:
        self._title, self._stage, self._on_progress = COMPONENT_KINDS[piece].title, stage, on_progress
        self.file: Path | None = None
        self.problem: CheckpointMissing | StorageProblem | None = None

    def hear(self, line: str) -> None:
        try:
            told: dict[str, Any] = json.loads(line)
        except ValueError:
            return  # something that a library prints
        if "done" in told:
            self._on_progress(int(told["done"]), int(told["of"]))
        elif "file" in told:
            self.file = Path(told["file"])
        elif "full" in told:
            self.problem = StorageProblem(
                f"There is no room for the {self._title}",
                f"it takes {int(told['full']) / 1e9:.1f} GB",
                "Make room on the disk, or choose another folder of models",
            )
        elif "problem" in told:
            self.problem = CheckpointMissing(
                f"The {self._title} could not be fetched",
                str(told["problem"])[:200],
                "Check the connection and try again: it goes on where it stopped",
            )


def _listen(process: subprocess.Popen[str], told: _Told, cancelled: Callable[[], bool]) -> None:
    """Until the process ends; it says something at least twice a second, so that whoever stops need not wait."""
    assert process.stdout is not None
    for line in process.stdout:
        if cancelled():
            raise Interrupted(
                "Stopped while fetching", remedy="What is there already is kept, and the next time goes on from there"
            )
        told.hear(line)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _online() -> dict[str, str]:
    return os.environ | {
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "0",
        "PYTHONUNBUFFERED": "1",
    }


def _nobody(done: int, of: int) -> None:
    """Hears what nobody asked for."""


def _never() -> bool:
    return False


# ---- the process that goes there ---------------------------------------------------------------------------------------


def _main(repository: str, file: str, stage: str) -> None:
    import threading

    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get  # hf_hub_download begins anew each time
    from huggingface_hub.utils import build_hf_headers

    about = get_hf_file_metadata(hf_hub_url(repository, file), token=False)
    size, version = about.size or 0, "".join(filter(str.isalnum, about.etag or "")) or "unknown"
    path = Path(stage) / f"{version}.part"
    if shutil.disk_usage(stage).free < size - (path.stat().st_size if path.exists() else 0):
        _say(full=size)
        return
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(path, size, over), daemon=True)
    watch.start()
    try:
        with path.open("ab") as part:
            http_get(
                about.location,
                part,
                resume_size=part.tell(),
                expected_size=size or None,
                headers=build_hf_headers(token=False),
            )
    finally:
        over.set()
    if len(version) == 64 and _sha256(path) != version:
        path.unlink()
        _say(problem="what came is not what the place says it is")
        return
    _say(file=str(path))


def _watch(path: Path, size: int, over: Any) -> None:
    """How much has come, by what lies there: the library's own bar says nothing while it waits, and whoever stops is not to wait."""
    while not over.wait(0.4):
        _say(done=path.stat().st_size if path.exists() else 0, of=size)


def _sha256(path: Path) -> str:
    digest, said = hashlib.sha256(), time.monotonic()
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            if time.monotonic() - said > 0.4:
                said = time.monotonic()
                _say(done=size, of=size)
    return digest.hexdigest()


def _say(**told: Any) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:4])
    except Exception as error:  # noqa: BLE001 - the process's roof: whoever started it hears why
        _say(problem=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
