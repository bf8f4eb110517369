"""Measures the training panel's cost: python -m benchmarks.panel [--steps SET SEQUENCE]... [--batch N] [--prior CLIPS]

Runs both stages in a real ComfyUI on the embedded model, and prints the share of the train nodes' processor time that
the panel takes. The time is counted inside the server (panel_probe/), so that other programs on the machine do not
disturb it. Each --steps gives one table.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from setandseq_core.config import PriorConfig
from tools.server.server import Server
from tools.workflows.graphs import training

ALLOWED = 0.02
"""Share of the training's time that the panel may cost, apart from the first and the last sample of each stage."""
PROBE = Path(__file__).parent / "panel_probe"
TRAINING = "training"


def spent(server: Server, steps: tuple[int, int], batch: int, seed: int, prior: int) -> dict[str, float]:
    """Processor seconds of each part of a training with these numbers of steps in the two stages.

    Args:
        prior: number of prior clips that are made first; 0 trains without prior clips.
    """
    share = PriorConfig().share if prior else 0.0
    graph = training(set_steps=steps[0], sequence_steps=steps[1], batch=batch, seed=seed, prior_share=share)
    graph["options"]["inputs"]["preview_every"] = 50
    graph["settings"]["inputs"]["prior_clips"] = max(prior, 1)
    server.get("panel_probe")
    server.run(graph).succeeded()
    return server.get("panel_probe")


def report(steps: tuple[int, int], parts: dict[str, float]) -> None:
    """One table, in Markdown."""
    whole = sum(parts.values())
    print(f"\n{steps[0]} + {steps[1]} steps\n\n| | processor seconds | share |\n|---|---|---|")
    for part, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"| {part} | {seconds:.2f} | {seconds / whole:.2%} |")
    end = sum(seconds for part, seconds in parts.items() if "at the end" in part)
    share, last = 1 - parts[TRAINING] / whole, end / whole
    print(f"\nThe panel takes {share:.2%} of {whole:.1f} s; {share - last:.2%} without the samples at the end.")
    print(f"{ALLOWED:.0%} are allowed.", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs=2, action="append", metavar=("SET", "SEQUENCE"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--prior", type=int, default=0, metavar="CLIPS", help="made first, and part of the training")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(PROBE, Path(name) / "custom_nodes" / PROBE.name)
        with Server(Path(name)) as server:
            spent(server, (2, 2), 1, 0, 0)
            for number, (first, second) in enumerate(arguments.steps or [(100, 200)], 1):
                steps = first, second
                report(steps, spent(server, steps, arguments.batch, number, arguments.prior))


if __name__ == "__main__":
    main()
