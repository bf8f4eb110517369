"""`make demo`: a headless ComfyUI runs one of the pack's workflow files, which artists open, on the shipped clip.

The concept, its videos, a contact sheet and report.json with the measurements go into a folder.
"""

import argparse
import json
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from setandseq_core.cli.console import ProgressLine
from setandseq_core.cli.signals import INTERRUPTED
from setandseq_core.clips.clip import Clip
from setandseq_core.clips.video import read_clip
from setandseq_core.concept_file.file import load_concept
from setandseq_core.embedded.demo import Shot, demo_shots, write_results
from setandseq_core.embedded.files import CLIP_FILE
from setandseq_core.embedded.world.scene import FPS, FRAMES, SIZE
from tools.server.events import Event
from tools.server.folder import ROOT, NoComfyUIError
from tools.server.run import ComfyUIError, Run
from tools.server.server import Server
from tools.workflows.prompt import to_prompt

WORKFLOW = ROOT / "workflows" / "1 Train on the embedded model.json"
SECONDS = 6 * 3600.0
"""Time limit in seconds, more than the slowest machine needs."""


def run_demo(workflow: dict[str, Any], out: Path) -> None:
    """Run the workflow in a separate ComfyUI and put the results into `out`.

    Raises:
        ComfyUIError: the server or a node failed; its message says where and why.
    """
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="setandseq_demo_") as folder:
        _say("starting ComfyUI")
        with Server(Path(folder)) as server:
            prompt = to_prompt(workflow, server.object_info())
            _say(f"ComfyUI is up at {server.address}; {len(prompt)} nodes to run")
            prompt_id = server.queue(prompt)
            show_progress(server.follow(prompt_id, SECONDS), prompt)
            run = server.wait(prompt_id).succeeded()
        videos, concepts = saved_videos(server, run, prompt), copy_concepts(server, out)
        if not videos or not concepts:
            raise ComfyUIError(f"The workflow made {len(videos)} videos and {len(concepts)} concepts; both are needed.")
        write_demo(out, videos, concepts[0])


def show_progress(events: Iterable[Event], prompt: dict[str, Any]) -> None:
    """Print the progress of ComfyUI: the nodes that run in steps, their time left, and each saved video."""
    line, started, done = ProgressLine(sys.stdout), dict[str, float](), set[str]()
    for event in events:
        if event.kind == "executed" and prompt[event.data["node"]]["class_type"] == "SaveVideo":
            _say(f"saved {_video_name(prompt[event.data['node']])}.mp4")
        for node, state in event.data["nodes"].items() if event.kind == "progress_state" else ():
            begin = started.setdefault(node, monotonic())
            if state["state"] == "running" and state["value"] > 0 and state["max"] > 1:
                left = (monotonic() - begin) * (state["max"] - state["value"]) / state["value"]
                label = f"[{len(done) + 1} of {len(prompt)}] {prompt[node]['_meta']['title']}"
                line.show(label, int(state["value"]), int(state["max"]), left)
            if state["state"] == "finished":
                done.add(node)


def saved_videos(server: Server, run: Run, prompt: dict[str, Any]) -> dict[str, Path]:
    """Videos from the workflow's Save Video nodes, by the name on the node, without number."""
    return {
        _video_name(prompt[node]): files[0]
        for node, files in server.files(run).items()
        if prompt[node]["class_type"] == "SaveVideo"
    }


def copy_concepts(server: Server, out: Path) -> list[Path]:
    """Copy the concepts that the workflow saved."""
    saved = sorted((server.folder / "models" / "dynamic_concepts").rglob("*.safetensors"))
    return [Path(shutil.copyfile(file, out / file.name)) for file in saved]


def write_demo(out: Path, videos: dict[str, Path], concept_file: Path) -> None:
    """Write the videos, the contact sheet and report.json from the files that ComfyUI saved."""
    takes = [(shot, _read(videos[shot.name]).frames_FHWC) for shot in _shots(videos)]
    write_results(out, _read(CLIP_FILE), load_concept(concept_file), takes, _say)


def _shots(videos: dict[str, Path]) -> list[Shot]:
    shots = {shot.name: shot for shot in demo_shots()}
    if unknown := sorted(set(videos) - set(shots)):
        raise ComfyUIError(f"The workflow saved {unknown}; the demo knows the shots {sorted(shots)}.")
    return [shot for name, shot in shots.items() if name in videos]


def _video_name(node: dict[str, Any]) -> str:
    return Path(node["inputs"]["filename_prefix"]).name


def _read(file: Path) -> Clip:
    return read_clip(file, fps=FPS, frames=FRAMES, size=(SIZE, SIZE))


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="where to put it (default: demo_output)")
    parser.add_argument("--workflow", type=Path, default=WORKFLOW, help="another workflow with Save Video nodes")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell start with SIGINT ignored
    try:
        run_demo(json.loads(arguments.workflow.read_text()), arguments.out)
    except KeyboardInterrupt:
        _say("\nStopped, and ComfyUI with it.")
        return INTERRUPTED
    except (ComfyUIError, NoComfyUIError, TimeoutError) as error:
        _say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
