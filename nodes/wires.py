"""The wires between our nodes, and what travels on them."""

from dataclasses import dataclass

from comfy_api.latest import io

from ..setandseq_core.concept import Concept

ReferenceWire = io.Custom("SETSEQ_REFERENCE")
IdentityWire = io.Custom("SETSEQ_IDENTITY")
ConceptWire = io.Custom("SETSEQ_CONCEPT")
SettingsWire = io.Custom("SETSEQ_SETTINGS")

CATEGORY = "Set-and-Sequence"


@dataclass(kw_only=True, slots=True, frozen=True, eq=False)
class WeightedConcept:
    """A concept on a SETSEQ_CONCEPT wire; a freshly trained one has both strengths at 1."""

    concept: Concept
    identity_strength: float = 1.0
    motion_strength: float = 1.0
