"""Kill trainings, as a power cut would, and check what is left: `python -m tools.kills` (or `make kills`).

A command that trains the embedded model is killed by SIGKILL at random moments: in both stages, while prior clips are
made, and while its state is written. The same command is repeated until it is done. The concept must equal that of an
undisturbed training bit for bit, each kill may lose only little work, and no files may be left over. Then a ComfyUI
that trains is killed in the same way.

The moments come from a fixed seed; the steps that they hit depend on the machine.
"""

import argparse
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from setandseq_core.atomic import PARTIAL_FOLDERS
from setandseq_core.cli.main import main as main_of_core
from setandseq_core.concept import Concept
from setandseq_core.concept_file.file import load_concept
from setandseq_core.training.run import SAVE_SECONDS
from tools.server.folder import ROOT
from tools.server.server import Server
from tools.workflows.graphs import Prompt, training

SETTINGS = """
rank = 4
[prior]
share = {share}
clips = 2
[set_stage]
steps = {steps}
batch = 1
learning_rate = 0.001
[sequence_stage]
steps = {steps}
batch = 1
learning_rate = 0.001
"""
PROMPTS = ("--static-prompt", "a sks creature, plain background", "--dynamic-prompt", "zub hopping")
EVERY_STEP = """
import sys
from setandseq_core.cli import console
from setandseq_core.cli.main import main
from setandseq_core.training import run
console.PLAIN_SECONDS = 0.0
run.SAVE_SECONDS = float(sys.argv[1])
run.SAVE_SHARE = 1.0
sys.exit(main(sys.argv[2:]))
"""
"""Program that runs the command line with a line for every step and more frequent saves."""
STEP = re.compile(r"learning the (look|motion) (\d+)/")
LOST_SECONDS = 30.0
"""Maximum seconds of work that a kill may cost."""
START_SECONDS = 300.0
SERVER_STEPS = 150
SERVER_STAGES = {"identity": ("look", SERVER_STEPS), "concept": ("motion", SERVER_STEPS + 1)}
"""Stage and number of steps by train node; the number tells its progress bar from others on the same node."""
SERVER_SECONDS = ((0.5, 5.0), (10.0, 20.0))
"""Ranges of the seconds until a server is killed, used in turn: into the first stage, and mostly into the second."""


@dataclass
class Killed:
    """The cost of a kill."""

    moment: str
    stage: str = ""
    step: int = 0
    lost_steps: int = 0
    lost_seconds: float = 0.0
    seen_at: float = field(default=0.0, repr=False)
    """Time at which the last step was seen."""


@dataclass
class Seen:
    """Finished steps of a training by stage and number, with the seconds of each; measures the cost of a kill."""

    seconds: dict[tuple[str, int], float] = field(default_factory=dict)

    def last(self, stage: str) -> int:
        """The last finished step of a stage; 0 if there is none."""
        return max((number for known, number in self.seconds if known == stage), default=0)

    def note(self, killed: Killed, stage: str, step: int) -> None:
        """Note a step that has just finished; the first one after a kill shows how many are repeated.

        The seconds of a process's first step are unknown, because they include its start.
        """
        now = time.monotonic()
        if not killed.stage:
            again = range(step, self.last(stage) + 1)
            killed.lost_steps = len(again)
            killed.lost_seconds = sum(self.seconds.pop((stage, number), 0.0) for number in again)
        self.seconds[stage, step] = now - (killed.seen_at or now)
        killed.stage = stage
        killed.step = step
        killed.seen_at = now


@dataclass
class Training:
    """A training command that is repeated after every kill."""

    folder: Path
    steps: int
    seed: int
    prior: bool
    """Whether prior clips are made, which take most of the time of a short training."""
    save_seconds: float
    """Seconds between two saves; if they are short, few steps are repeated."""
    seen: Seen = field(default_factory=Seen)

    @property
    def out(self) -> Path:
        """Path of the concept."""
        return self.folder / "bee.safetensors"

    def arguments(self) -> list[str]:
        """Arguments of the command; writes its settings file."""
        self.folder.mkdir(exist_ok=True)
        settings = self.folder.with_suffix(".toml")
        settings.write_text(SETTINGS.format(steps=self.steps, share=0.5 * self.prior))
        clip = ROOT / "setandseq_core" / "embedded" / "demo_clip.mp4"
        files = ["--video", str(clip), "--config", str(settings), "--out", str(self.out), "--seed", str(self.seed)]
        return ["train", *files, *PROMPTS, "--float32"]

    def start(self) -> "subprocess.Popen[str]":
        """Run the command in a separate process."""
        command = [sys.executable, "-c", EVERY_STEP, str(self.save_seconds), *self.arguments()]
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def finish(self) -> Concept:
        """Run the command to its end in this process."""
        if main_of_core(self.arguments()):
            raise RuntimeError("The training has failed; see above.")
        return load_concept(self.out)

    def kill(self, moment: str, chance: random.Random) -> Killed | None:
        """Run the command and kill it at a moment; None if it finished before that.

        Args:
            moment: "steps": some time after its first step; "write": while it writes a file; "start": before any step.
            chance: gives the time until the kill.
        """
        with self.start() as process:
            killed = Killed(moment=moment)
            reached = self._reach(process, moment, chance, killed)
            process.kill()
        return killed if reached else None

    def _reach(self, process: "subprocess.Popen[str]", moment: str, chance: random.Random, killed: Killed) -> bool:
        assert process.stderr is not None
        if moment == "start":
            time.sleep(chance.uniform(0.2, 3.0))
            return process.poll() is None
        deadline = time.monotonic() + START_SECONDS
        until = None
        for line in process.stderr:
            step = STEP.search(line)
            if step is None:
                continue
            self.seen.note(killed, step[1], int(step[2]))
            now = time.monotonic()
            until = until or now + chance.uniform(0.1, 2.5)
            if moment == "steps" and now > until:
                return True
            if moment == "write" and now > until:
                return self._wait_for_write(process, deadline)
        return False

    def _wait_for_write(self, process: "subprocess.Popen[str]", deadline: float) -> bool:
        while process.poll() is None and time.monotonic() < deadline:
            if any(self.folder.rglob(PARTIAL_FOLDERS)):
                return True
            time.sleep(0.0005)
        return False


def same(one: Concept, two: Concept) -> bool:
    """Whether two concepts have the same weights and losses, bit for bit."""
    losses = [[concept.info.training[stage]["losses"] for stage in ("set", "sequence")] for concept in (one, two)]
    return losses[0] == losses[1] and all(
        torch.equal(getattr(layer, part), getattr(two.layers[name], part))
        for name, layer in one.layers.items()
        for part in ("identity_basis_OR", "coefficients_RI", "motion_residual_RI")
    )


def left_lying(folder: Path) -> list[Path]:
    """Leftover temporary files, which no later start would remove."""
    return [*folder.rglob(PARTIAL_FOLDERS), *folder.rglob("*.tmp*")]


def kill_command_line(
    kills: int, steps: int, seed: int, save_seconds: float, folder: Path, *, prior: bool = True
) -> list[Killed]:
    """Train until `kills` kills have hit; finish each training and compare it with an undisturbed one.

    Raises:
        AssertionError: a concept differs, or files are left over.
    """
    chance = random.Random(seed)
    found: list[Killed] = []
    for number in count():
        if len(found) >= kills:
            break
        run = Training(
            folder=folder / f"killed_{number}",
            steps=steps,
            seed=number,
            prior=prior,
            save_seconds=save_seconds,
        )
        while len(found) < kills:
            moment = ("steps", "write", "steps", "start")[len(found) % 4]
            killed = run.kill(moment, chance)
            if killed is None:
                break
            found.append(killed)
            print(f"  kill {len(found)}: {killed}", flush=True)
        whole = replace(run, folder=folder / f"whole_{number}")
        assert same(run.finish(), whole.finish()), "the concept is another one after kills"
        assert not left_lying(folder), left_lying(folder)
    return found


def kill_servers(kills: int, seed: int, folder: Path) -> list[Killed]:
    """Kill a ComfyUI while it trains, restart it and queue the same prompt until it is done.

    Raises:
        AssertionError: the concept differs, or files are left over.
    """
    chance = random.Random(seed)
    graph = training(set_steps=SERVER_STEPS, sequence_steps=SERVER_STEPS + 1)
    graph["save"]["inputs"]["float32"] = True
    found = []
    concepts = []
    for name, times in (("killed", kills), ("whole", 0)):
        server = Server(folder / name)
        seen = Seen()
        for number in range(times):
            seconds = chance.uniform(*SERVER_SECONDS[number % len(SERVER_SECONDS)])
            found.append(kill_server(server, graph, seen, seconds))
            print(f"  kill of a server: {found[-1]}", flush=True)
        with server:
            server.run(graph).succeeded()
        assert not left_lying(folder / name), left_lying(folder / name)
        (saved,) = (folder / name / "models" / "dynamic_concepts").glob("*.safetensors")
        concepts.append(load_concept(saved))
    assert same(*concepts), "the concept is another one after kills of the server"
    return found


def kill_server(server: Server, graph: Prompt, seen: Seen, seconds: float) -> Killed:
    """Start a ComfyUI, queue a training and kill the server `seconds` after the first step that is seen."""
    killed = Killed(moment="server")
    until = None
    server.start()
    for event in server.follow(server.queue(graph)):
        nodes = event.data.get("nodes", {}) if event.kind == "progress_state" else {}
        for name, (stage, steps) in SERVER_STAGES.items():
            state = nodes.get(name, {})
            if state.get("state") == "running" and state.get("max") == steps and state["value"]:
                seen.note(killed, stage, int(state["value"]))
                until = until or time.monotonic() + seconds
        if until and time.monotonic() > until:
            break
    server.kill()
    return killed


def main() -> None:
    """Kill trainings, and print the seconds that were lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of the command line")
    parser.add_argument("--servers", type=int, default=4, help="kills of a ComfyUI")
    parser.add_argument("--steps", type=int, default=60, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-seconds", type=float, default=1.0, help=f"between two states, {SAVE_SECONDS:g} in use")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = kill_command_line(given.kills, given.steps, given.seed, given.save_seconds, Path(folder))
        servers = kill_servers(given.servers, given.seed, Path(folder) / "servers") if given.servers else []
    lost = max((killed.lost_seconds for killed in found), default=0.0)
    lost_in_servers = max((killed.lost_seconds for killed in servers), default=0.0)
    in_use = lost + SAVE_SECONDS - given.save_seconds
    print(f"{len(found)} kills of the command line, {given.servers} of a server: all concepts bit for bit the same.")
    print(f"At most {lost:.1f} s lost with a state every {given.save_seconds:g} s: {in_use:.1f} s in use.")
    print(f"At most {lost_in_servers:.1f} s lost in a server, which saves a state every {SAVE_SECONDS:g} s.")
    assert max(in_use, lost_in_servers) < LOST_SECONDS


if __name__ == "__main__":
    main()
