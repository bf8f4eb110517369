"""The server that the other tests of this folder rely on: its errors are noticed, and it always ends."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.server.run import ComfyUIError, PromptRejectedError
from tools.server.server import Server, free_port

Prompt = dict[str, dict[str, Any]]


def image_prompt(width: int) -> Prompt:
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": width, "height": 64, "batch_size": 2, "color": 255}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "harness"}},
    }


def waiting_prompt(seconds: float) -> Prompt:
    return {"7": {"class_type": "Other_Wait", "inputs": {"seconds": seconds}}}


def test_saved_files_are_found(server: Server) -> None:
    run = server.run(image_prompt(64)).succeeded()
    files = server.files(run)["2"]
    assert len(files) == 2
    assert all(file.is_file() and file.is_relative_to(server.folder / "output") for file in files)


def test_progress_is_told_from_start_to_end(server: Server) -> None:
    prompt_id = server.queue(image_prompt(32))
    server.wait(prompt_id).succeeded()
    kinds = [event.kind for event in server.follow(prompt_id)]
    assert kinds[0] == "execution_start"
    assert "progress_state" in kinds
    assert kinds[-1] == "executing"


def test_rejected_value_names_node_and_input(server: Server) -> None:
    with pytest.raises(PromptRejectedError, match=r"node 1 \(EmptyImage\): Value -4 smaller than min of 1: width"):
        server.queue(image_prompt(-4))
    run = server.run(image_prompt(-4))
    assert (run.status, run.node, run.node_type) == ("rejected", "1", "EmptyImage")
    with pytest.raises(ComfyUIError, match="EmptyImage"):
        run.succeeded()


def test_unknown_node_is_named(server: Server) -> None:
    run = server.run({"5": {"class_type": "NoSuchNode", "inputs": {}}})
    assert (run.status, run.node, run.node_type) == ("rejected", "5", "NoSuchNode")
    assert "NoSuchNode" in run.error


def test_one_bad_output_rejects_the_prompt(server: Server) -> None:
    prompt = image_prompt(48)
    prompt["3"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    with pytest.raises(PromptRejectedError, match=r"node 3 \(SaveImage\)"):
        server.queue(prompt)
    queue = server.get("queue")
    assert not queue["queue_pending"]


def test_failed_node_is_named(server: Server) -> None:
    (server.folder / "input" / "broken.png").write_bytes(b"no picture")
    prompt = image_prompt(64) | {"1": {"class_type": "LoadImage", "inputs": {"image": "broken.png"}}}
    run = server.run(prompt)
    assert (run.status, run.node, run.node_type) == ("error", "1", "LoadImage")
    assert run.error
    with pytest.raises(ComfyUIError, match="LoadImage"):
        run.succeeded()


def test_two_servers_cancel_restart_and_death(
    server: Server, start_server: Callable[..., Server], crowded_folder: Path
) -> None:
    other = start_server(crowded_folder, pack_name="")
    assert other.port != server.port

    for _ in range(10):  # at any moment of the start
        prompt_id = other.queue(waiting_prompt(1000))
        other.interrupt(prompt_id)
        assert other.wait(prompt_id, 60).status == "interrupted"

    prompt_id = other.queue(waiting_prompt(1000))
    waiting = other.queue(waiting_prompt(2000))
    other.interrupt(waiting)
    other.interrupt(prompt_id)
    assert other.wait(waiting).status == "interrupted"
    run = other.wait(prompt_id)
    assert (run.status, run.node, run.error) == ("interrupted", "7", "cancelled")
    assert not other.get("queue")["queue_pending"]

    other.run(image_prompt(64)).succeeded()
    other.restart()
    run = other.run(image_prompt(64)).succeeded()
    assert not run.cached
    assert len(list((crowded_folder / "output").iterdir())) == 4

    prompt_id = other.queue(waiting_prompt(1000))
    assert other._process is not None
    other._process.kill()
    with pytest.raises(ComfyUIError, match="ComfyUI ended with exit status -9"):
        list(other.follow(prompt_id))
    with pytest.raises(ComfyUIError, match="To see the GUI"):  # the end of the log
        other.wait(prompt_id)
    other.stop()
    other.stop()


def test_a_server_that_is_still_dying_is_not_taken_for_one_that_hung_up(tmp_path: Path) -> None:
    dying = Server(tmp_path, pack_name="")
    (dying.folder / "server.log").write_text("the end")
    dying._process = subprocess.Popen(["sleep", "1"])
    dying.port = free_port()  # nobody answers there
    with pytest.raises(ComfyUIError, match=r"ended with exit status 0\.(?s:.*)the end"):
        dying.get("queue")


def test_failed_start_shows_the_log(comfyui: Path, tmp_path: Path) -> None:
    server = Server(tmp_path, options=["--no-such-option"])
    with pytest.raises(ComfyUIError, match="unrecognized arguments: --no-such-option"):
        server.start()
    with pytest.raises(ComfyUIError, match="does not run"):
        server.run({})
