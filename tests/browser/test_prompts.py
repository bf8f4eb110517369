"""Checking the prompts on Reference Clip, in a real browser."""

import pytest
from playwright.sync_api import expect

from tools.pictures.interface import Ui

CHECK = "async texts => (await import('/extensions/setandseq/prompts.mjs')).checkPrompts(...texts)"
CONNECT = (
    "([from, to]) => { const of = id => app.graph.getNodeById(id) ?? app.graph.getNodeById(Number(id));"
    " of(from).connect(0, of(to), 0); }"
)
LOOK = "a [v] dancer in a red dress, on a bright stage"
MOVE = "a [v] dancer in a red dress [u] spinning fast, on a bright stage"


@pytest.mark.parametrize(
    ("look", "move", "to_do"),
    [
        (LOOK, MOVE, []),
        ("", "", ["Look prompt: describe the look", "Motion prompt: repeat the look prompt"]),
        ("a dancer", "a dancer [u] spinning", ["Look prompt: add [v]"]),
        (LOOK, LOOK, ["Motion prompt: add the motion"]),
        (LOOK, f"{LOOK} [u]", ["Motion prompt: add the motion"]),
        (LOOK, f"{LOOK}, spinning fast", ['Motion prompt: add [u] before "spinning fast"']),
        (LOOK, "a dancer [u] spinning, red dress, bright stage", ["Motion prompt: [v] is missing"]),
        (LOOK, "a [v] dancer [u] spinning", ['Motion prompt: it leaves out "red dress bright stage"']),
        (LOOK, f"{MOVE} {' '.join(['very'] * 40)}", ["Length: 54 of 48 words. Shorten"]),
    ],
)
def test_what_is_missing_is_said(canvas: Ui, look: str, move: str, to_do: list[str]) -> None:
    found = [finding["text"] for finding in canvas.page.evaluate(CHECK, [look, move, True]) if not finding["ok"]]
    assert len(found) == len(to_do)
    assert all(text.startswith(start) for text, start in zip(found, to_do, strict=True))


def test_lengths_for_wan_are_an_estimate_of_tokens(canvas: Ui) -> None:
    long = f"{MOVE} {' '.join(['very'] * 400)}"
    (finding,) = [finding for finding in canvas.page.evaluate(CHECK, [LOOK, long, False]) if not finding["ok"]]
    assert finding["text"].startswith("Length: about 559 of 512 tokens.")


def test_the_check_follows_what_is_written(ui: Ui) -> None:
    node = ui.add("SetSeq_ReferenceClip")
    check = ui.region("Prompt check")
    expect(check.get_by_text("Look prompt: describe the look")).to_be_visible()
    expect(check.get_by_role("img", name="good:")).to_have_count(0)  # no tick for what is not there
    boxes = ui.page.locator("textarea")
    boxes.nth(0).fill(LOOK)
    expect(check.get_by_text("Look: [v] stands for it.")).to_be_visible()
    boxes.nth(1).fill(MOVE)
    expect(check.get_by_text('Motion: [u] stands for "spinning fast".')).to_be_visible()
    expect(check.get_by_text("Length: about")).to_be_visible()
    assert ui.widgets(node)["motion_prompt"] == MOVE
    (queued,) = ui.prompt().values()
    assert "prompt_check" not in queued["inputs"]


def test_the_embedded_model_counts_words(canvas: Ui) -> None:
    reference = canvas.add("SetSeq_ReferenceClip", static_prompt=LOOK, motion_prompt=MOVE)
    model = canvas.add("UNETLoader", unet_name="setandseq_embedded_transformer.safetensors")
    canvas.show(reference)
    canvas.page.evaluate(CONNECT, [model, reference])
    expect(canvas.region("Prompt check").get_by_text("Length: 14 of 48 words.")).to_be_visible()


def test_words_the_embedded_model_does_not_know_are_named(canvas: Ui) -> None:
    look = "a striped [v] sqare on a gray plain background"
    reference = canvas.add("SetSeq_ReferenceClip", static_prompt=look, motion_prompt=f"{look}, [u] wandering")
    model = canvas.add("UNETLoader", unet_name="setandseq_embedded_transformer.safetensors")
    canvas.show(reference)
    canvas.page.evaluate(CONNECT, [model, reference])
    check = canvas.region("Prompt check")
    expect(check.get_by_text("The embedded model was never trained on: sqare (nearest: square).")).to_be_visible()


def test_a_button_puts_the_missing_token_in(ui: Ui) -> None:
    node = ui.add("SetSeq_TrainConcept", static_prompt="a dancer in red", motion_prompt="a dancer in red spinning")
    check = ui.region("Prompt check")
    for name in ("Add [v]", "Add [v]", "Add [u]"):
        check.get_by_role("button", name=name).first.click()
        ui.page.wait_for_timeout(500)
    values = ui.widgets(node)
    assert values["static_prompt"] == "a [v] dancer in red"
    assert values["motion_prompt"] == "a [v] dancer in red [u] spinning"
    expect(check.get_by_role("button")).to_have_count(0)
    expect(check.get_by_role("img", name="good:")).to_have_count(3)


def test_what_comes_by_a_wire_gets_no_tick(canvas: Ui) -> None:
    reference = canvas.add("SetSeq_ReferenceClip", static_prompt=LOOK, motion_prompt=MOVE)
    text = canvas.add("PrimitiveString")
    canvas.show(reference)
    canvas.page.evaluate(
        "([from, to]) => { const of = id => app.graph.nodes.find(node => String(node.id) === id); const into = of(to);"
        " of(from).connect(0, into, into.inputs.findIndex(input => input.name === 'static_prompt')); }",
        [text, reference],
    )
    check = canvas.region("Prompt check")
    expect(check.get_by_role("img", name="not checked:")).to_be_visible()
    expect(check.get_by_role("img", name="good:")).to_have_count(0)
