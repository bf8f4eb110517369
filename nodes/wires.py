"""The wires between our nodes, and what travels on them."""

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
]

ReferenceWire = io.Custom("SETSEQ_REFERENCE")
ConceptWire = io.Custom("SETSEQ_CONCEPT")
SettingsWire = io.Custom("SETSEQ_SETTINGS")
PriorWire = io.Custom("SETSEQ_PRIOR")
ScheduleWire = io.Custom("SETSEQ_SCHEDULE")

CATEGORY = "Set-and-Sequence"
