"""The corrected estimate against the risk that is known because the clean image is."""

from __future__ import annotations

import torch
from torch import Tensor

from diffstudio.diffusion.restoration.unbiased_risk import PROBE_STEP, corrected_estimate

SIDE, NOISE = 32, 0.2


def low_frequencies(x: Tensor) -> Tensor:
    """What a network that knows no details gives: everything below 0.15 cycles per px."""
    radius = torch.hypot(torch.fft.fftfreq(SIDE)[:, None], torch.fft.fftfreq(SIDE))
    return torch.fft.ifft2(torch.fft.fft2(x) * (radius < 0.15)).real


def setting(detail: float) -> tuple[Tensor, Tensor, Tensor]:
    """Smooth images with white detail of this deviation; the same with noise; a probe of signs."""
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(4, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)

    clean = low_frequencies(normal()) + detail * normal()
    return clean, clean + NOISE * normal(), normal().sign()


def risk(estimate: Tensor, clean: Tensor) -> float:
    return float((estimate - clean).square().mean())


def test_details_that_a_network_drops_are_taken_from_the_image() -> None:
    """White detail of deviation 0.3 in noise of 0.2: the least risk above the limit keeps 0.69 of what is there."""
    clean, y, probe = setting(detail=0.3)
    estimate, moved = low_frequencies(y), low_frequencies(y + PROBE_STEP * NOISE * probe)
    corrected = corrected_estimate(y, estimate, moved, probe, NOISE)
    share = 0.3**2 / (0.3**2 + NOISE**2)
    best = torch.lerp(estimate, y, share)
    assert risk(corrected, clean) < 1.03 * risk(best, clean)
    assert risk(corrected, clean) < 0.5 * risk(estimate, clean) and risk(corrected, clean) < 0.8 * risk(y, clean)


def test_where_nothing_is_lost_the_estimate_stays_as_it_is() -> None:
    clean, y, probe = setting(detail=0.0)
    estimate, moved = low_frequencies(y), low_frequencies(y + PROBE_STEP * NOISE * probe)
    assert torch.allclose(corrected_estimate(y, estimate, moved, probe, NOISE), estimate)
    assert torch.allclose(corrected_estimate(y, y, y + PROBE_STEP * NOISE * probe, probe, NOISE), y)


def test_a_band_without_coefficients_changes_nothing() -> None:
    """An image of one px has none but the mean."""
    y = torch.full((1, 1, 1, 1), 0.5)
    assert torch.equal(
        corrected_estimate(y, 0.9 * y, 0.9 * y, torch.ones_like(y), NOISE).isfinite(), torch.tensor([[[[True]]]])
    )
