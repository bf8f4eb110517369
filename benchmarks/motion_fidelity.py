"""Tests motion fidelity on known motions: python -m benchmarks.motion_fidelity. Takes a minute on one core.

Every motion of six concepts, with three looks and other backgrounds, is compared with every concept's own clip, also by
the embedded probe, which knows the world. docs/metrics.md holds the printed table.
"""

from dataclasses import replace

import torch

from setandseq_core.embedded.probes.metrics import motion_similarity
from setandseq_core.embedded.world.concepts import CONCEPTS
from setandseq_core.embedded.world.scene import render
from setandseq_core.evaluate.motion_fidelity import motion_fidelity
from tools.embedded_model.accuracy import degraded

MOTIONS = ("bee", "mushroom", "lantern", "pinwheel", "butterfly", "shell")
LOOKS = ("bee", "pinwheel", "butterfly")
TEXTURES = ("plain", "dotted", "plain")


def clips_of(motion: str) -> list[torch.Tensor]:
    """Clips of the motion with each look, at another place on a green background, as a lossy model renders them."""
    clips = []
    for number, (look, texture) in enumerate(zip(LOOKS, TEXTURES, strict=True)):
        other = replace(CONCEPTS[motion], look=CONCEPTS[look].look, radius=14, background="green", texture=texture)
        clips.append(degraded(render(other.scene(place=(30, 34))), torch.Generator().manual_seed(number)))
    return clips


def main() -> None:
    """Measure and print."""
    clips = {motion: clips_of(motion) for motion in MOTIONS}
    columns = {}
    for name, metric in (("motion fidelity", motion_fidelity), ("embedded probe", motion_similarity)):
        found = {
            (reference, motion): [metric(CONCEPTS[reference].frames(), clip) for clip in clips[motion]]
            for reference in MOTIONS
            for motion in MOTIONS
        }
        same = torch.tensor([value for pair, values in found.items() if pair[0] == pair[1] for value in values])
        other = torch.tensor([value for pair, values in found.items() if pair[0] != pair[1] for value in values])
        above = 100 * float((same.unsqueeze(1) > other).float().mean())
        print(f"{name}: same {same.mean():.2f} ({same.min():.2f}), other {other.mean():.2f} ({other.max():.2f})")
        print(f"  a same pair above another one: {above:.1f} %")
        least = min((pair for pair in found if pair[0] == pair[1]), key=lambda pair: min(found[pair]))
        most = max((pair for pair in found if pair[0] != pair[1]), key=lambda pair: max(found[pair]))
        print(f"  least alike of the same motion: {least[0]}; most alike of others: {most[0]} and {most[1]}")
        columns[name] = torch.tensor([value for values in found.values() for value in values])
    print(f"correlation: {torch.corrcoef(torch.stack(list(columns.values())))[0, 1]:.2f}")


if __name__ == "__main__":
    main()
