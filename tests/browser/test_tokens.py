"""The tokens of a prompt and of the concepts on its way to a sampler are checked, in a real browser."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tools.pictures.interface import Ui
from tools.sample_concept import save_sample

FINDINGS = "async values => (await import('/extensions/setandseq/tokens.mjs')).tokenFindings(...values)"
CONNECT = """([from, output, to, input]) => {
  const of = id => window.app.graph.nodes.find(node => String(node.id) === id);
  const slot = (slots, name) => slots.findIndex(slot => slot.name.toLowerCase() === name);
  of(from).connect(slot(of(from).outputs, output), of(to), slot(of(to).inputs, input));
}"""
BEE = "a [v] bee, [u] dancing"
Wire = Callable[[str, str, str, str], None]


def known(name: str, *tokens: str, apart: bool = False) -> dict[str, object]:
    return {"key": name, "name": name, "tokens": tokens, "needed": tokens, "apart": apart}


@pytest.mark.parametrize(
    ("concepts", "prompt", "texts"),
    [
        ([known("bee", "[v]", "[u]")], BEE, []),
        ([known("bee", "[v]", "[u]")], "a [v] bee and a [w] ant, [u] dancing", ["has [w], which no concept"]),
        ([known("bee", "[v]", "[u]")], "a [v] bee", ["lacks [u]"]),
        ([known("bee", "[v]"), known("ant", "[v]")], "a [v] bee", ["bee and ant share [v]"]),
        ([known("bee", "[v]", apart=True), known("ant", "[v]")], "a [v] bee", []),
        ([known("bee", "[v]"), known("ant", "[w]")], "a [v] bee and a [w] ant", []),
    ],
)
def test_what_is_wrong_is_said(canvas: Ui, concepts: list[dict[str, object]], prompt: str, texts: list[str]) -> None:
    prompts = [{"title": "Prompt", "text": prompt}]
    found = canvas.page.evaluate(FINDINGS, [concepts, prompts, concepts[:1]])
    assert len(found) == len(texts)
    assert all(text in finding["text"] for text, finding in zip(texts, found, strict=True))


@pytest.fixture
def connect(page_of_server: Ui) -> Wire:
    """Draws a wire from an output to an input, by their names."""
    return lambda *ends: page_of_server.page.evaluate(CONNECT, list(ends))


@pytest.fixture
def files(concepts: Path, page_of_server: Ui) -> list[str]:
    """Two concepts with the same tokens, and one with others."""
    for name, tokens in (("bee", ("[v]", "[u]")), ("ant", ("[v]", "[u]")), ("fox", ("[w]", "[x]"))):
        look, motion = tokens
        save_sample(
            concepts / f"{name}.safetensors",
            name=name,
            identity_token=look,
            motion_token=motion,
            static_prompt=f"a {look} {name}",
            motion_prompt=f"a {look} {name}, {motion} dancing",
        )
    page_of_server.page.evaluate("() => window.app.refreshComboInNodes()")
    return [f"{name}.safetensors" for name in ("bee", "ant", "fox")]


def chain(ui: Ui, connect: Wire, *files: str, prompt: str = BEE) -> tuple[str, str]:
    """A sampler behind a concept for each file, and its prompt; the last card's node and the prompt's."""
    sampler, text = ui.add("KSampler"), ui.add("CLIPTextEncode", text=prompt)
    connect(text, "conditioning", sampler, "positive")
    before = ui.add("UNETLoader")
    for file in files:
        node = ui.add("SetSeq_LoadDynamicConcept", concept=file)
        connect(before, "model", node, "model")
        before = node
    connect(before, "model", sampler, "model")
    ui.show(before)
    return before, text


def card(ui: Ui) -> Locator:
    return ui.region("Concept").last


@pytest.mark.every_frontend
def test_a_card_warns_of_shared_unknown_and_missing_tokens(ui: Ui, connect: Wire, files: list[str]) -> None:
    bee, ant, fox = files
    node, text = chain(ui, connect, bee, ant)
    expect(card(ui).get_by_text("ant and bee share [v], [u]")).to_be_visible()
    ui.change(node, concept=fox)
    expect(card(ui).get_by_text("lacks [w], [x]: without its token, fox hardly shows")).to_be_visible()
    expect(card(ui).get_by_text("cannot tell them apart")).to_have_count(0)
    ui.change(text, text="a [v] bee, [u] dancing, a [w] fox, [x] running, a [y] cat")
    expect(card(ui).get_by_text("has [y], which no concept on this wire knows")).to_be_visible()
    expect(card(ui).get_by_text("lacks")).to_have_count(0)
    ui.change(text, text="a [v] bee, [u] dancing, a [w] fox, [x] running")
    expect(card(ui).locator(".setandseq-findings li")).to_have_count(0)


def test_a_concept_that_is_off_shares_nothing(ui: Ui, connect: Wire, files: list[str]) -> None:
    bee, ant, _ = files
    node, _ = chain(ui, connect, bee, ant)
    expect(card(ui).get_by_text("cannot tell them apart")).to_be_visible()
    ui.change(node, identity_strength=0, motion_strength=0)
    expect(card(ui).get_by_text("cannot tell them apart")).to_have_count(0)


def test_composed_concepts_are_checked_on_the_node_that_composes_them(ui: Ui, connect: Wire, files: list[str]) -> None:
    compose, sampler = ui.add("SetSeq_ComposeConcepts"), ui.add("KSampler")
    text = ui.add("CLIPTextEncode", text=BEE)
    connect(text, "conditioning", sampler, "positive")
    for number, file in enumerate(files[:2]):
        connect(ui.add("SetSeq_LoadDynamicConcept", concept=file), "concept", compose, f"concepts.concept_{number}")
    connect(compose, "model", sampler, "model")
    ui.show(compose)
    check = ui.region("Token check")
    expect(check.get_by_text("bee and ant share [v], [u]")).to_be_visible()
    ui.change(compose, method="regions")
    expect(check.get_by_text("cannot tell them apart")).to_have_count(0)
    assert "token_check" not in str(ui.prompt())
