"""What the training panel costs: python -m benchmarks.panel [--steps SET SEQUENCE] [--turns N]

Both stages in ComfyUI on the embedded model, by turns with the panel's sample videos and validation line and without
them (preview_every 0). What counts is the server's processor time: other programs on the machine do not disturb it.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median

from tools.comfyui import Server
from tools.graphs import training

ALLOWED = 0.02
"""Of the training's time: what the panel may cost."""


def run(server: Server, steps: tuple[int, int], seed: int, preview_every: int) -> float:
    """Processor seconds of a training of that many steps in the two stages."""
    graph = training(set_steps=steps[0], sequence_steps=steps[1], batch=4, seed=seed)
    graph["options"]["inputs"]["preview_every"] = preview_every
    before = server.processor_seconds()
    server.run(graph).succeeded()
    return server.processor_seconds() - before


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs=2, default=(100, 200), metavar=("SET", "SEQUENCE"))
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        run(server, (2, 2), 0, 1)
        shares = []
        for turn in range(arguments.turns):
            without = run(server, tuple(arguments.steps), 2 * turn + 1, 0)
            with_it = run(server, tuple(arguments.steps), 2 * turn + 2, 50)
            shares.append(with_it / without - 1)
            print(f"turn {turn + 1}: {without:.1f} s without, {with_it:.1f} s with the panel, {shares[-1]:+.2%}")
        print(f"the panel costs {median(shares):+.2%} of the training's processor time, {ALLOWED:.0%} are allowed")


if __name__ == "__main__":
    main()
