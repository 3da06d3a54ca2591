"""A mask belongs to one image: by its whole name, else where nothing else has the name without its ending."""

from __future__ import annotations

import pytest

from diffstudio.training.data.captions.mask_names import masks_of


@pytest.mark.parametrize(
    ("images", "masks", "found"),
    [
        (["n.jpg", "n.png"], ["n.jpg", "n.png"], {"n.jpg": "n.jpg", "n.png": "n.png"}),
        (["n.jpg", "n.png"], ["n.png"], {"n.png": "n.png"}),  # it is another image's
        (["n.jpg", "n.png"], ["n.gif"], {}),
        (["n.jpg"], ["n.png", "n.gif"], {}),
        (["n.jpg"], ["n.png"], {"n.jpg": "n.png"}),
        (["n.jpg", "n.png"], ["n.jpg", "n.gif"], {"n.jpg": "n.jpg", "n.png": "n.gif"}),
        (["n.jpg", "n.png"], ["n_mask.jpg", "n_mask.png"], {"n.jpg": "n_mask.jpg", "n.png": "n_mask.png"}),
        (["n.jpg", "N.jpg"], ["N.jpg", "n.jpg"], {"n.jpg": "n.jpg", "N.jpg": "N.jpg"}),
        (["Ä.jpg"], ["a\u0308.PNG"], {"Ä.jpg": "a\u0308.PNG"}),  # in another Unicode normal form
        (["a_mask.png"], ["a_mask.jpg"], {"a_mask.png": "a_mask.jpg"}),
        (["n.jpg"], ["m.jpg"], {}),
    ],
)
def test_masks_belong_to_images_by_name(images: list[str], masks: list[str], found: dict[str, str]) -> None:
    pairs = masks_of(images, masks)
    assert {images[image]: masks[mask] for image, mask in pairs.items()} == found
