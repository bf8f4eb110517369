"""Run many trainings in one ComfyUI: `python -m tools.trainings` (or `make trainings`).

A training must leave nothing behind in the process: memory must stay flat, and the model's samples must not change.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load_file
from torch import Tensor, equal

from tools.server.server import Server
from tools.workflows.graphs import CONCEPT, embedded_model, sampling, training

SETTLED = 5
"""Number of trainings after which caches are full."""
GROWTH_MIB = 2.0
"""Maximum growth per training on average, in MiB; a leaked copy of the model would be 20."""


def sample(server: Server, prefix: str) -> Tensor:
    """Latents that the model samples without a concept."""
    server.run(embedded_model() | sampling(["model", 0], CONCEPT.motion_prompt, prefix=prefix)).succeeded()
    (path,) = (server.folder / "output").glob(f"{prefix}_*.latent")
    return load_file(path)["latent_tensor"]


def main() -> None:
    """Train many times, then compare memory and samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    count = parser.parse_args().count
    with TemporaryDirectory() as folder, Server(Path(folder)) as server:
        before = sample(server, "before")
        sizes = []
        for number in range(count):
            server.run(training(seed=number)).succeeded()
            sizes.append(server.resident_mib())
            print(f"training {number + 1}: {sizes[-1]:.0f} MiB", flush=True)
        assert equal(before, sample(server, "after")), "the model makes something else after the trainings"
    growth = (sizes[-1] - sizes[SETTLED]) / max(count - SETTLED - 1, 1)
    print(f"{count} trainings: the same samples; {growth:+.2f} MiB a training after the first {SETTLED}.")
    assert growth < GROWTH_MIB


if __name__ == "__main__":
    main()
