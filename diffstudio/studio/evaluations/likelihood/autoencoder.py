"""The likelihood of images under a VAE: the ELBO and the importance-weighted bound."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.diffusion.likelihood import spacing
from diffstudio.models.families.one_call import OneCallModel
from diffstudio.networks.autoencoder import Autoencoder
from diffstudio.networks.transformer import Condition
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.likelihood.measurement import BOUNDING, Measurement, finite
from diffstudio.studio.evaluations.likelihood.result import ELBO, IMPORTANCE
from diffstudio.training.objectives.bounds import elbo, in_bits, iwae

PRIOR_NOTE = (
    "Both bounds use the standard normal prior that the VAE was trained with. New images are sampled from the flow prior "
    "instead, which the bounds do not measure."
)


@dataclass(frozen=True)
class AutoencoderMeasurement(Measurement):
    """Measures a VAE by two bounds on -log2 P(x), with `draws` latent samples for each image."""

    def bits_of(self, indices: NDArray[np.int64]) -> tuple[Mapping[str, Tensor], Tensor | None]:
        self.check()
        network, condition = self._network_and_condition(indices)
        images, number, draws = self.batch(indices), int(indices[0]), self.request.draws
        found = {
            name: finite(
                in_bits(
                    bound(
                        network, images, condition, self.generator(BOUNDING, number), draws=draws, levels=2**self.bits
                    ),
                    images,
                ),
                self.subject,
            )
            for name, bound in ((ELBO, elbo), (IMPORTANCE, iwae))
        }
        return found, None

    def settings(self, dimensions: int) -> dict[str, object]:
        return {"draws": self.request.draws, "seed": self.request.seed}

    def formulas(self, dimensions: int) -> dict[str, str]:
        steps = self.steps
        offset = (
            f"No offset: P is the probability of {steps}; a density would need + {-math.log2(spacing(self.bits)):.4f}, which "
            f"is -log2(2 / {2**self.bits - 1:,})"
        )
        draws, prior = f"K = {count_of(self.request.draws, 'sample')} z of q(z | x)", "p(z) = N(0, 1)"
        return {
            ELBO: f"(KL(q(z | x) || p(z)) - mean over K of log P(x | z)) / ({dimensions:,} ln 2) >= -log2 P(x) / "
            f"{dimensions:,}, with {draws} and {prior} (1312.6114, eq. 3). {offset}",
            IMPORTANCE: f"-log(mean over K of P(x | z) p(z) / q(z | x)) / ({dimensions:,} ln 2), on average between "
            f"-log2 P(x) / {dimensions:,} and the ELBO, with {draws} and {prior} (1509.00519, eq. 8). {offset}",
        }

    def _network_and_condition(self, indices: NDArray[np.int64]) -> tuple[Autoencoder, Condition]:
        assert isinstance(self.model, OneCallModel) and isinstance(self.model.one_call_network, Autoencoder)
        return self.model.one_call_network, self.model.condition(self.labels(indices))
