"""Feature networks from the person's own files: small ones of transformers' own classes, and what is said without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from diffstudio.errors import CheckpointDamaged, CheckpointMissing, CheckpointUnknown, DiffstudioError
from diffstudio.models.feature_networks import KINDS, find_network, open_network
from diffstudio.networks.inception import FidInception

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "intermediate_size": 16,
}
MEAN, DEVIATION = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
IMAGES = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import (
        CLIPConfig,
        CLIPModel,
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    path = tmp_path_factory.mktemp("features")
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**SMALL)).save_pretrained(path / "dino" / "dinov2-small")
    Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL)).save_pretrained(path / "registers")
    clip = CLIPConfig(text_config=SMALL | {"vocab_size": 20}, vision_config=SMALL, projection_dim=8)
    CLIPModel(clip).save_pretrained(path / "clip-small")
    about = {"image_mean": MEAN, "image_std": DEVIATION, "crop_size": {"height": 28, "width": 28}}
    (path / "clip-small" / "preprocessor_config.json").write_text(json.dumps(about))
    return path


def test_clip_gives_the_image_embedding(folders: Path) -> None:
    from transformers import CLIPModel

    network = open_network(find_network("clip", [folders]), CPU)
    assert network.label() == "CLIP (clip-small), image embedding, resized to 28 px, bicubic" and network.width == 8
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    model = CLIPModel.from_pretrained(folders / "clip-small").eval()
    with torch.no_grad():
        vision = model.vision_model(pixel_values=((IMAGES + 1) / 2 - mean) / deviation).pooler_output
        expected = model.visual_projection(vision)
    torch.testing.assert_close(network.features(IMAGES), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["dino/dinov2-small", "registers"])
def test_dinov2_gives_the_class_token(folders: Path, name: str) -> None:
    from transformers import AutoModel

    network = open_network(folders / name, CPU)
    assert network.name == f"DINOv2 ({Path(name).name}), class token" and network.width == 16
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folders / name).eval()(((IMAGES + 1) / 2 - mean) / deviation)
    torch.testing.assert_close(network.features(IMAGES), expected.last_hidden_state[:, 0], atol=1e-5, rtol=1e-4)
    grey = IMAGES[:, :1]
    torch.testing.assert_close(network.features(grey), network.features(grey.expand(-1, 3, -1, -1)))
    assert network.features(F.interpolate(IMAGES, 50)).shape == (2, 16)


def test_they_are_found_in_the_model_folders_and_an_absent_one_is_said(folders: Path, tmp_path: Path) -> None:
    assert find_network("dinov2", [tmp_path, folders]) == folders / "dino" / "dinov2-small"
    for kind in KINDS:
        with pytest.raises(CheckpointMissing, match=r"in the model folders\. Put"):
            find_network(kind, [tmp_path, tmp_path / "nowhere"])
    (tmp_path / "a" / "b" / "c" / "d" / "e").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "d" / "e" / "inception.pth").touch()  # deeper than is searched
    with pytest.raises(CheckpointMissing):
        find_network("inception", [tmp_path])


def test_other_networks_and_damaged_ones_are_named(folders: Path, tmp_path: Path) -> None:
    other = tmp_path / "bert"
    other.mkdir()
    with pytest.raises(CheckpointUnknown, match=r"config\.json names neither DINOv2 nor CLIP"):
        open_network(other, CPU)
    (other / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointUnknown):
        open_network(other, CPU)
    (other / "config.json").write_text(json.dumps({"model_type": "dinov2"} | SMALL))
    with pytest.raises(CheckpointDamaged, match="in bert cannot be loaded"):
        open_network(other, CPU)
    tensors = safetensors.torch.load_file(folders / "dino" / "dinov2-small" / "model.safetensors")
    tensors.pop("layernorm.weight")
    safetensors.torch.save_file(tensors, other / "model.safetensors", {"format": "pt"})
    (other / "config.json").write_bytes((folders / "dino" / "dinov2-small" / "config.json").read_bytes())
    with pytest.raises(CheckpointDamaged, match=r"1 tensor is missing or has another shape, as layernorm\.weight"):
        open_network(other, CPU)
    config = json.loads((folders / "clip-small" / "config.json").read_text()) | {"projection_dim": 12}
    (other / "config.json").write_text(json.dumps(config))
    (other / "model.safetensors").write_bytes((folders / "clip-small" / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointDamaged, match=r"another shape, as visual_projection\.weight"):
        open_network(other, CPU)
    with pytest.raises(CheckpointMissing, match="one of: auto, imagenet, folder, inception, dinov2, clip"):
        open_network(tmp_path / "nowhere", CPU)
    (tmp_path / "text.pth").write_text("nothing of the kind")
    with pytest.raises(DiffstudioError, match=r"text\.pth"):
        open_network(tmp_path / "text.pth", CPU)


def test_fids_inception_from_a_file(tmp_path: Path) -> None:
    network = FidInception()
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(network.state_dict() | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path)
    opened = open_network(find_network("inception", [tmp_path]), CPU)
    assert opened.label() == "Inception (FID), resized to 299 px, bilinear as in TensorFlow 1"
    assert opened.features(IMAGES[:1]).shape == (1, 2048)
    safetensors.torch.save_file({"fc.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointUnknown, match=r"other\.safetensors is not the Inception network of FID: it has no "):
        open_network(tmp_path / "other.safetensors", CPU)
    shapes = network.state_dict() | {"Conv2d_1a_3x3.bn.bias": torch.zeros(5)}
    torch.save(shapes, tmp_path / "shapes.pth")
    with pytest.raises(CheckpointUnknown, match="its tensors have other shapes"):
        open_network(tmp_path / "shapes.pth", CPU)
