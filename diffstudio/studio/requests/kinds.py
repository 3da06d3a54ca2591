"""The kinds of requests, and the one that a JSON object describes."""

from __future__ import annotations

from typing import Any, TypeAlias

from diffstudio.errors import BadRequest
from diffstudio.studio.requests.generate_request import GenerateRequest
from diffstudio.studio.requests.train_request import TrainRequest
from diffstudio.studio.requests.upscale_request import UpscaleRequest

PictureRequest: TypeAlias = GenerateRequest | UpscaleRequest  # the requests that make images
Request = GenerateRequest | UpscaleRequest | TrainRequest


def request_from_json(values: dict[str, Any]) -> Request:
    """The request in a JSON object; BadRequest for an unknown kind, or one written by a newer diffstudio."""
    match values.get("kind") if isinstance(values, dict) else None:
        case "generate":
            return GenerateRequest.from_json(values)
        case "upscale":
            return UpscaleRequest.from_json(values)
        case "train":
            return TrainRequest.from_json(values)
        case other:
            raise BadRequest(f"The request has the unknown kind {str(other)[:80]!r}")
