"""A real ComfyUI shows the size of kept trainings and removes them on request."""

from pathlib import Path

import requests

from tools.server.server import Server


def test_kept_work_is_shown_and_removed_and_nothing_else_is(server: Server) -> None:
    folder = server.folder / "user" / "setandseq" / "training"
    before = server.get("setandseq/kept")
    assert Path(before["folder"]) == folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("set_a_000001.safetensors", "prior_b.safetensors", "mine.txt"):
        (folder / name).write_bytes(b"x" * 100)
    assert server.get("setandseq/kept")["bytes"] == before["bytes"] + 200
    answer = requests.delete(f"{server.address}/setandseq/kept", timeout=60)
    assert answer.json() == {"bytes": before["bytes"] + 200}
    assert [path.name for path in folder.iterdir()] == ["mine.txt"] and server.get("setandseq/kept")["bytes"] == 0
    (folder / "mine.txt").unlink()
