"""Changes that rotate a weight: OFT and BOFT, as kohya and LyCORIS (the outputs) and PEFT (the inputs) define them.

OFT: Qiu et al. 2023, arXiv 2306.07280. BOFT: Liu et al. 2023, arXiv 2311.06243. A rotation is stored as the
skew-symmetric matrices of its blocks and made by the Cayley transform.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffstudio.models.adapters.delta import Delta, RowRanges, select_rows


@dataclass(frozen=True, slots=True)
class OutputRotation(Delta):
    """kohya's and LyCORIS' OFT: each block of `b` output rows is rotated, and then scaled if it has `rescale`.

    Several tensors are the parts of a fused matrix, as sd-scripts' `oft_flux` stores them.
    """

    blocks: tuple[Tensor, ...]  # [n, b, b] for each part, whose outputs are n * b
    constraint: float = 0.0  # of the norm of a part's skew matrices, for each output; 0 for none
    rescale: Tensor | None = None  # [out, 1, …]
    are_rotations: bool = False  # the blocks are the rotations themselves, as early LyCORIS' `oft_diag`
    kind: str = "OFT"

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return self.blocks if self.rescale is None else (*self.blocks, self.rescale)

    @property
    def is_zero(self) -> bool:
        return self.rescale is None and not self.are_rotations and not any(bool(part.any()) for part in self.blocks)

    def fits(self, outs: int, ins: int, rows: RowRanges) -> bool:
        if any(part.ndim != 3 or part.shape[1] != part.shape[2] or not part.numel() for part in self.blocks):
            return False
        if sum(len(part) * part.shape[1] for part in self.blocks) != outs:
            return False
        return (self.rescale is None or self.rescale.numel() == outs) and all(
            (edge - start) % size == 0
            for first, last in rows
            for start, stop, size in self._parts()
            for edge in (first, last)
            if start < edge < stop
        )

    def difference(self, weight: Tensor, rows: RowRanges | None) -> Tensor:
        rotations = [self._rotations(part.to(weight.device, torch.float32)) for part in self.blocks]
        rotated, done = torch.empty_like(weight), 0
        for first, last in rows or ((0, len(weight)),):
            for rotation, (start, stop, size) in zip(rotations, self._parts(), strict=True):
                low, high = max(first, start), min(last, stop)
                if low < high:
                    blocks = rotation[(low - start) // size : (high - start) // size]
                    here = weight[done : done + high - low].view(len(blocks), size, -1)
                    rotated[done : done + high - low] = torch.einsum("knm,kni->kmi", blocks, here).flatten(0, 1)
                    done += high - low
        if self.rescale is not None:
            rotated *= select_rows(self.rescale.to(weight.device, torch.float32).reshape(-1, 1), rows)
        return rotated - weight

    def _parts(self) -> list[tuple[int, int, int]]:
        """First row, last row + 1 and block size of each part."""
        parts, start = [], 0
        for part in self.blocks:
            parts.append((start, start + len(part) * part.shape[1], part.shape[1]))
            start = parts[-1][1]
        return parts

    def _rotations(self, blocks: Tensor) -> Tensor:
        return blocks if self.are_rotations else _lycoris_rotations(blocks, self.constraint * blocks.shape[:2].numel())


@dataclass(frozen=True, slots=True)
class OutputButterfly(Delta):
    """LyCORIS' BOFT: `m` rotations of blocks of output rows, each between a butterfly permutation and its inverse."""

    blocks: Tensor  # [m, n, b, b]
    constraint: float = 0.0  # of the norm of all skew matrices, for each output; 0 for none
    rescale: Tensor | None = None  # [out, 1, …]
    kind: str = "BOFT"

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return (self.blocks,) if self.rescale is None else (self.blocks, self.rescale)

    @property
    def is_zero(self) -> bool:
        return self.rescale is None and not bool(self.blocks.any())

    def fits(self, outs: int, ins: int, rows: RowRanges) -> bool:
        if self.blocks.ndim != 4 or self.blocks.shape[2] != self.blocks.shape[3] or self.blocks.shape[2] % 2:
            return False
        steps, count, size, _ = self.blocks.shape
        if count * size != outs or (self.rescale is not None and self.rescale.numel() != outs):
            return False
        return rows == ((0, outs),) and steps > 0 and outs % (2**steps * (size // 2)) == 0

    def difference(self, weight: Tensor, rows: RowRanges | None) -> Tensor:
        blocks = self.blocks.to(weight.device, torch.float32)
        size, outs = blocks.shape[2], len(weight)
        rotated = weight
        for step, rotation in enumerate(_lycoris_rotations(blocks, self.constraint * outs)):
            stride = 2**step * (size // 2)
            paired = rotated.view(-1, 2, stride, rotated.shape[1]).transpose(1, 2).reshape(-1, size, rotated.shape[1])
            turned = torch.einsum("bij,bjn->bin", rotation, paired)
            rotated = turned.reshape(-1, stride, 2, rotated.shape[1]).transpose(1, 2).reshape(outs, -1)
        if self.rescale is not None:
            rotated = rotated * self.rescale.to(weight.device, torch.float32).reshape(-1, 1)
        return rotated - weight


def _lycoris_rotations(blocks: Tensor, largest_norm: float) -> Tensor:
    """[…, b, b] -> (I + Q)(I - Q)^-1 with Q = blocks - blocks^T, whose norm is limited unless the limit is 0."""
    skew = blocks - blocks.transpose(-1, -2)
    if largest_norm > 0:
        norm = skew.norm() + 1e-8
        skew = torch.where(norm > largest_norm, skew * (largest_norm / norm), skew)
    identity = torch.eye(skew.shape[-1], device=skew.device)
    rotation: Tensor = torch.linalg.solve(identity - skew, identity + skew, left=False)
    return rotation


@dataclass(frozen=True, slots=True)
class InputRotation(Delta):
    """PEFT's OFT: each block of `b` inputs is rotated. The kernel of a convolution is part of the inputs."""

    skew: Tensor  # [n, b (b - 1) / 2]: the entries above the diagonal; one row for all blocks where they are shared
    neumann_terms: int = 0  # of the Cayley-Neumann series; 0 for the exact transform
    halves_last_term: bool = True  # of the series, as PEFT since version 0.18
    largest_norm: float = 0.0  # of one block's skew matrix, for constrained OFT; 0 for none
    kind: str = "OFT"

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return (self.skew,)

    @property
    def block_size(self) -> int:
        return int((1 + (1 + 8 * self.skew.shape[1]) ** 0.5) / 2)

    def fits(self, outs: int, ins: int, rows: RowRanges) -> bool:
        if self.skew.ndim != 2 or not self.skew.numel():
            return False
        size = self.block_size
        return size * (size - 1) // 2 == self.skew.shape[1] and ins % size == 0 and len(self.skew) in (1, ins // size)

    def difference(self, weight: Tensor, rows: RowRanges | None) -> Tensor:
        rotation = self._rotations(weight.device)
        blocks = weight.view(len(weight), -1, self.block_size)
        rotation = rotation.expand(blocks.shape[1], -1, -1)
        return torch.einsum("rij,orj->ori", rotation, blocks).reshape(weight.shape) - weight

    def _rotations(self, device: torch.device) -> Tensor:
        size, values = self.block_size, self.skew.to(device, torch.float32)
        row, column = torch.triu_indices(size, size, 1, device=device)
        skew = torch.zeros(len(values), size, size, device=device)
        skew[:, row, column] = values
        skew = skew - skew.transpose(1, 2)
        if self.largest_norm > 0:
            norm = skew.norm(dim=(1, 2), keepdim=True)
            limit = self.largest_norm / len(values) ** 0.5
            skew = torch.where(norm <= limit, skew, skew * (limit / norm.clamp_min(1e-12)))
        identity = torch.eye(size, device=device)
        if not self.neumann_terms:
            exact: Tensor = torch.linalg.solve(identity + skew, identity - skew, left=False)
            return exact
        highest = self.neumann_terms - 1
        if self.halves_last_term and highest > 1:
            highest = max(3, highest)
        rotation, power = identity.expand(len(skew), -1, -1), identity
        for exponent in range(1, highest + 1):  # (I + Q)(I + Q + Q^2 + …) = I + 2 Q + 2 Q^2 + …
            power = power @ skew
            halved = self.halves_last_term and exponent == highest > 2
            rotation = rotation + (1 if halved else 2) * power
        return rotation


@dataclass(frozen=True, slots=True)
class InputButterfly(Delta):
    """PEFT's BOFT: `m` rotations of blocks of inputs between butterfly permutations, then one factor for each output."""

    blocks: Tensor  # [m, n, b, b]
    output_scale: Tensor | None = None  # out values
    kind: str = "BOFT"

    @property
    def factors(self) -> tuple[Tensor, ...]:
        return (self.blocks,) if self.output_scale is None else (self.blocks, self.output_scale)

    @property
    def is_zero(self) -> bool:
        scaled = self.output_scale is not None and bool((self.output_scale != 1).any())
        return not scaled and not bool(self.blocks.any())

    def fits(self, outs: int, ins: int, rows: RowRanges) -> bool:
        if self.blocks.ndim != 4 or self.blocks.shape[2] != self.blocks.shape[3]:
            return False
        steps, count, size, _ = self.blocks.shape
        if count * size != ins or (self.output_scale is not None and self.output_scale.numel() != outs):
            return False
        return steps == 1 or (size % 2 == 0 and count % 2 ** (steps - 1) == 0)

    def difference(self, weight: Tensor, rows: RowRanges | None) -> Tensor:
        blocks = self.blocks.to(weight.device, torch.float32)
        steps, count, size, _ = blocks.shape
        skew = 0.5 * (blocks - blocks.transpose(-1, -2))
        identity = torch.eye(size, device=weight.device)
        rotations = torch.linalg.solve(identity + skew, identity - skew, left=False)
        rotated = weight
        for step, rotation in enumerate(rotations):
            order = _butterfly_order(count * size, count >> step, size // 2, steps - 1).to(weight.device)
            permuted = torch.empty_like(rotated)
            permuted[:, order] = rotated
            turned = torch.einsum("kij,okj->oki", rotation, permuted.view(len(weight), count, size))
            rotated = turned.reshape(weight.shape)[:, order]
        if self.output_scale is not None:
            scale = self.output_scale.to(weight.device, torch.float32).reshape(-1, 1)
            rotated = rotated * select_rows(scale, rows)
        return rotated - weight


def _butterfly_order(size: int, blocks: int, half: int, factors: int) -> Tensor:
    """PEFT's block butterfly permutation: in each of the blocks, the even runs of `half` inputs before the odd ones."""
    order = torch.arange(size)
    if not factors:
        return order
    runs = order.view(blocks, -1, half)
    return torch.cat((runs[:, 0::2], runs[:, 1::2]), 1).flatten()
