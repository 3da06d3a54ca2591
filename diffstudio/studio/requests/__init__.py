"""Requests for images and training runs: frozen records shared by the window, the command line, the queue and PNG metadata.

A request is changed with `dataclasses.replace`, never in place. Creating one checks everything that can be checked
without opening a checkpoint; what depends on the checkpoint (its sizes) is checked when the job starts.
"""

from diffstudio.studio.requests.choices import SamplerName, SpacingName
from diffstudio.studio.requests.controlnet_use import ControlNetUse
from diffstudio.studio.requests.generate_request import GenerateRequest
from diffstudio.studio.requests.kinds import PictureRequest, Request, request_from_json
from diffstudio.studio.requests.train_request import TrainRequest
from diffstudio.studio.requests.upscale_request import UpscaleRequest

__all__ = [
    "ControlNetUse",
    "GenerateRequest",
    "PictureRequest",
    "Request",
    "SamplerName",
    "SpacingName",
    "TrainRequest",
    "UpscaleRequest",
    "request_from_json",
]
