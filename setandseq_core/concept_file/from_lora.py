"""Make an identity from a LoRA: motion can then be learned on a look that was learned elsewhere.

This is not in the paper.

Letters: O out_features, I in_features, R rank.
"""

# PyTorch leaves the types of its decompositions open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..clips.clip import Words
from ..concept import Concept, ConceptInfo, ConceptLayer
from ..errors import ConceptFileError
from ..fingerprint import BaseFingerprint
from .foreign_lora import ForeignLora, read_foreign_lora
from .lora_names import DiffusersName

ROW_NORM = 3**-0.5
"""Norm of a row of the coefficients, the same as for PEFT's initial ones, from which a set stage starts. The identity
basis then has the size that a set stage gives it, and a learning rate has the same effect in the sequence stage."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Factorised:
    """The best approximation of a weight change by two factors of a given rank."""

    identity_basis_OR: Tensor
    coefficients_RI: Tensor
    kept: float
    """Sum of the squares of the singular values that are kept."""
    whole: float
    """Sum of the squares of all singular values."""


@dataclass(kw_only=True, slots=True, frozen=True)
class LookTaken:
    """An identity, and how closely it matches the LoRA that it was made from."""

    identity: Concept
    rank: int
    """The largest rank of the LoRA's layers."""
    kept: float
    """Share of the LoRA's weight change that is kept, by Frobenius norm, in [0, 1]."""
    left_out: list[str]
    """Names in the file that were not taken."""

    def summary(self) -> str:
        """One or two sentences for people."""
        layers = len(self.identity.layers)
        text = (
            f"Took the look of {layers} layers: rank {self.identity.rank} of {self.rank}, {self.kept:.0%} of it kept."
        )
        if self.left_out:
            text += f" Left out: {len(self.left_out)} tensors, such as {self.left_out[0]:.100}."
        return text


def factorised(up_OR: Tensor, down_RI: Tensor, rank: int) -> Factorised:
    """A1 and B1 of the given rank whose product A1 B1 is nearest to the product up down (Eckart-Young).

    If that product has a lower rank, the rest is zeros. The rows of B1 are orthogonal and have norm `ROW_NORM`; A1
    includes the singular values.
    """
    basis_OR, to_up = torch.linalg.qr(up_OR.double())
    rows_IR, to_down = torch.linalg.qr(down_RI.double().T)
    left, values, right = torch.linalg.svd(to_up @ to_down.T)
    taken = min(rank, len(values))
    identity_basis_OR = basis_OR @ left[:, :taken] * values[:taken] / ROW_NORM
    coefficients_RI = right[:taken] @ rows_IR.T * ROW_NORM
    empty = rank - taken
    return Factorised(
        identity_basis_OR=torch.nn.functional.pad(identity_basis_OR, (0, empty)).to(up_OR.dtype),
        coefficients_RI=torch.nn.functional.pad(coefficients_RI, (0, 0, 0, empty)).to(up_OR.dtype),
        kept=values[:taken].square().sum().item(),
        whole=values.square().sum().item(),
    )


def identity_from_lora(
    path: Path,
    base: BaseFingerprint,
    base_name: str,
    words: Words,
    *,
    in_diffusers: DiffusersName,
    rank: int = 0,
    strength: float = 1.0,
    leave_out: bool = False,
) -> LookTaken:
    """Make a concept without motion, like the result of `learn.learn_identity`, from another program's LoRA.

    Args:
        path: a .safetensors file with the native, diffusers' or kohya's names.
        base: the model that the LoRA was made for and that motion will be learned on.
        base_name: the model's name for people.
        words: prompts for the look; the identity token is the LoRA's trigger word, if it has one.
        in_diffusers: gives the name of a layer of the model in diffusers.
        rank: rank of the identity basis, at most the LoRA's; 0 takes the LoRA's.
        strength: strength of the LoRA, as in a LoRA loader.
        leave_out: see `read_foreign_lora`.
    Raises:
        ConceptFileError: the file is damaged, is not a LoRA, or changes nothing.
        ConceptMismatchError: the LoRA was made for another model, or part of it cannot be taken.
    """
    lora = read_foreign_lora(path, base.layers, in_diffusers, leave_out=leave_out)
    most = min(rank or lora.rank, lora.rank)
    found = {layer: factorised(up_OR * strength, down_RI, most) for layer, (up_OR, down_RI) in lora.factors.items()}
    energy = sum(each.whole for each in found.values())
    if energy == 0:
        raise ConceptFileError(
            f"{path.name} changes nothing at strength {strength:g}.",
            hint="Give another strength or another LoRA.",
        )
    kept = (sum(each.kept for each in found.values()) / energy) ** 0.5
    layers = {layer: _layer(each) for layer, each in found.items()}
    info = _info(path, base, base_name, words, lora, {"rank": most, "strength": strength, "kept": round(kept, 4)})
    return LookTaken(identity=Concept(info=info, layers=layers), rank=lora.rank, kept=kept, left_out=lora.left_out)


def _layer(each: Factorised) -> ConceptLayer:
    return ConceptLayer(
        identity_basis_OR=each.identity_basis_OR,
        coefficients_RI=each.coefficients_RI,
        motion_residual_RI=torch.zeros_like(each.coefficients_RI),
    )


def _info(
    path: Path, base: BaseFingerprint, base_name: str, words: Words, lora: ForeignLora, taken: dict[str, float]
) -> ConceptInfo:
    source = {"file": path.name, "rank": lora.rank, "left_out": len(lora.left_out), **taken}
    return ConceptInfo(
        name=path.stem,
        static_prompt=words.static_prompt,
        motion_prompt=words.motion_prompt,
        identity_token=words.identity_token,
        motion_token="",
        base=base,
        base_name=base_name,
        config={"rank": taken["rank"]},
        training={"finished": True, "identity_from_lora": source},
    )
