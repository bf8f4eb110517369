"""The menu entry that removes kept trainings from the disk."""

import pytest
from playwright.sync_api import expect

from tools.pictures.interface import Ui

RUN = "() => { void window.app.extensionManager.command.execute('SetSeq.RemoveKept'); }"


@pytest.mark.every_frontend
def test_the_size_is_shown_and_nothing_is_removed_before_it_is_confirmed(canvas: Ui) -> None:
    folder = canvas.server.folder / "user" / "setandseq" / "training"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "set_kept_000001.safetensors"
    kept.write_bytes(b"x" * 2**20)
    canvas.page.evaluate(RUN)
    dialog = canvas.page.get_by_role("dialog")
    expect(dialog).to_contain_text(str(folder))
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    assert kept.exists()
    canvas.page.evaluate(RUN)
    canvas.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(canvas.toast("MiB removed")).to_have_count(1)
    assert not kept.exists()
