"""The types of the wires between the nodes of this pack."""

from comfy_api.latest import io

from ..setandseq_core.compose.strengths import WeightedConcept

__all__ = [
    "CATEGORY",
    "ConceptWire",
    "PriorWire",
    "ReferenceWire",
    "ScheduleWire",
    "SettingsWire",
    "WeightedConcept",
    "encoder_inputs",
]

ReferenceWire = io.Custom("SETSEQ_REFERENCE")
ConceptWire = io.Custom("SETSEQ_CONCEPT")
SettingsWire = io.Custom("SETSEQ_SETTINGS")
PriorWire = io.Custom("SETSEQ_PRIOR")
ScheduleWire = io.Custom("SETSEQ_SCHEDULE")

CATEGORY = "Set-and-Sequence"


def encoder_inputs() -> list[io.Input]:
    """The inputs for a MODEL's text encoder and VAE."""
    return [
        io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
        io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
    ]
