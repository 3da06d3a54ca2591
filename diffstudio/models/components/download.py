"""Download missing components from public repositories on huggingface.co, only when the user asks for them. No torch.

The program runs with HF_HUB_OFFLINE=1, so downloads run in a child process with this module as its program. It reports
progress as lines of JSON, can be terminated at any time, and the next one resumes where it stopped. A file gets its
final name once it is complete and its SHA-256 matches that of the repository, which has one for large files only.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio.atomic import replace
from diffstudio.errors import BadRequest, CheckpointMissing, StorageProblem
from diffstudio.models.components.download_process import (
    ALREADY_RUNNING,
    CONNECTION_LOST,
    PARTIAL_FOLDER,
    ChildOutput,
    only_writer,
    report,
    reported_size,
    run_download,
)
from diffstudio.models.components.requirements import COMPONENT_KINDS
from diffstudio.models.files.file_access import first_line
from diffstudio.models.files.hashes import file_sha256
from diffstudio.storage_errors import disk_is_full, not_written, storage_errors


@dataclass(frozen=True, slots=True)
class DownloadSource:
    """A file on huggingface.co, with its approximate size."""

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
# Component kind -> its files, from repositories that require no account.
DOWNLOAD_SOURCES: Mapping[str, tuple[DownloadSource, ...]] = {
    "clip_l": (DownloadSource(_COMFY_FLUX, "clip_l.safetensors", 246_144_152),),
    "clip_g": (
        DownloadSource("Comfy-Org/stable-diffusion-3.5-fp8", "text_encoders/clip_g.safetensors", 1_389_382_176),
    ),
    "t5": (DownloadSource(_COMFY_FLUX, "t5xxl_fp16.safetensors", 9_787_841_024),),
    "qwen3": (DownloadSource(_COMFY_Z, "split_files/text_encoders/qwen_3_4b.safetensors", 8_044_982_048),),
    "qwen2.5-vl": (
        DownloadSource(_COMFY_QWEN, "split_files/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", 9_384_670_680),
    ),
    "vae-sd": (
        DownloadSource("stabilityai/sd-vae-ft-mse-original", "vae-ft-mse-840000-ema-pruned.safetensors", 334_641_190),
    ),
    "vae-sdxl": (DownloadSource("stabilityai/sdxl-vae", "sdxl_vae.safetensors", 334_641_164),),
    "vae-flux": (DownloadSource(_COMFY_Z, "split_files/vae/ae.safetensors", 335_304_388),),
    "vae-qwen": (DownloadSource(_COMFY_QWEN, "split_files/vae/qwen_image_vae.safetensors", 253_806_246),),
    "tokenizer-t5": (DownloadSource("google-t5/t5-base", "tokenizer.json", 1_389_353),),
    "tokenizer-qwen": (
        DownloadSource("Qwen/Qwen3-4B", "tokenizer.json", 11_422_654),
        DownloadSource("Qwen/Qwen3-4B", "tokenizer_config.json", 9_732),
    ),
}


def downloadable(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds that can be downloaded."""
    return tuple(kind for kind in kinds if kind in DOWNLOAD_SOURCES)


def download_bytes(kinds: Sequence[str]) -> int:
    """The approximate size of a download."""
    return sum(source.about_bytes for kind in kinds for source in DOWNLOAD_SOURCES.get(kind, ()))


def source_repositories(kinds: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(source.repository for kind in kinds for source in DOWNLOAD_SOURCES.get(kind, ())))


def download_component(
    kind: str,
    home: Path,
    on_progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Path]:
    """Download the files of a component kind into their folder below `home`, the models folder.

    `on_progress` gets the bytes so far and in total. BadRequest for a kind that cannot be downloaded, CheckpointMissing
    where the repository cannot be reached or the file is corrupt, StorageProblem where the disk is full or the folder
    cannot be written to, Interrupted soon after `cancelled()` becomes true: the next call resumes the download.
    """
    if kind not in DOWNLOAD_SOURCES:
        known = f"Choose one of {', '.join(DOWNLOAD_SOURCES)}"
        raise BadRequest(
            f"{COMPONENT_KINDS[kind].title if kind in COMPONENT_KINDS else repr(kind[:40])} cannot be downloaded",
            "no public repository is known for it",
            known,
        )
    done: list[Path] = []
    for source in DOWNLOAD_SOURCES[kind]:
        target = home / COMPONENT_KINDS[kind].folder / source.name
        if not target.exists():
            _download_file(kind, source, home, target, on_progress or _ignore, cancelled or _never)
        done.append(target)
    return done


def _download_file(
    kind: str,
    source: DownloadSource,
    home: Path,
    target: Path,
    on_progress: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> None:
    partial = home / PARTIAL_FOLDER / source.repository.replace("/", "--")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageProblem(
            f"{home} cannot be written to", error.strerror or str(error), "Choose another models folder"
        ) from error
    output = _ChildOutput(kind, partial, on_progress)
    run_download([__name__, source.repository, source.file, str(partial)], output.read, cancelled)
    if output.file is None:
        raise output.problem or output.failed(CONNECTION_LOST, "Try again")
    with storage_errors(not_written(target), target.parent):
        replace(output.file, target)
    shutil.rmtree(partial, ignore_errors=True)
    with contextlib.suppress(OSError):
        partial.parent.rmdir()  # unless another download is running


class _ChildOutput(ChildOutput):
    def __init__(self, kind: str, partial: Path, on_progress: Callable[[int, int], None]) -> None:
        self._title = COMPONENT_KINDS[kind].title
        super().__init__(f"the {self._title}", on_progress)
        self.file: Path | None = None

    def take(self, message: Mapping[str, Any]) -> None:
        if "file" in message:
            self.file = Path(message["file"])
        elif "problem" in message:
            self.problem = self.failed(str(message["problem"])[:200], "Check the connection and try again")

    def failed(self, why: str, remedy: str) -> CheckpointMissing:
        return CheckpointMissing(
            f"The {self._title} could not be downloaded", why, f"{remedy}: the download resumes where it stopped"
        )


def _ignore(done: int, of: int) -> None:
    """The default of `on_progress`."""


def _never() -> bool:
    return False


# ---- the child process ---------------------------------------------------------------------------------------


def _main(repository: str, file: str, partial: str) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    about = get_hf_file_metadata(hf_hub_url(repository, file), token=False)
    size, version = about.size or 0, "".join(filter(str.isalnum, about.etag or "")) or "unknown"
    path = Path(partial) / f"{version}.part"
    with only_writer(Path(partial)) as alone:
        if not alone:
            report(problem=ALREADY_RUNNING)
            return
        _receive(path, size, version, about.location)


def _receive(path: Path, size: int, version: str, location: str) -> None:
    from huggingface_hub.file_download import http_get  # hf_hub_download cannot resume
    from huggingface_hub.utils import build_hf_headers

    if shutil.disk_usage(path.parent).free < size - (path.stat().st_size if path.exists() else 0):
        report(full=size)
        return
    try:
        with reported_size(path, size), path.open("ab") as part:
            http_get(
                location,
                part,
                resume_size=part.tell(),
                expected_size=size or None,
                headers=build_hf_headers(token=False),
            )
    except OSError as error:
        if not disk_is_full(error):
            raise
        report(full=size)
        return
    with reported_size(path, size):
        is_right = len(version) != 64 or file_sha256(path) == version
    if not is_right:
        path.unlink()
        report(problem="the file is corrupt: its SHA-256 differs from the repository's")
        return
    report(file=str(path))


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:4])
    except Exception as error:  # noqa: BLE001 - the parent process reports it
        report(problem=f"{type(error).__name__}: {first_line(error)}")
