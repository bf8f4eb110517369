"""The server's answers to the interface about a concept file."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]
Call = Callable[..., Any]
MODEL = "wan.safetensors"


@pytest.fixture
def card(pack: Pack, folders: Path, wan_file: Call) -> Call:
    """Requests a card; the folder of diffusion models holds the random Wan."""
    (folders / "diffusion_models").mkdir()
    (folders / "diffusion_models" / MODEL).symlink_to(wan_file())
    paths = pack("nodes.model_files").folder_paths
    paths.folder_names_and_paths["diffusion_models"] = ([str(folders / "diffusion_models")], {".safetensors", ".pt"})
    return pack("nodes.card").card


@pytest.fixture
def save(pack: Pack, folders: Path) -> Callable[[Any], Path]:
    """Saves a concept as bee.safetensors."""

    def write(concept: Any, **info: Any) -> Path:
        path = folders / "dynamic_concepts" / "bee.safetensors"
        concept_of, save_concept = (
            pack("setandseq_core.concept").Concept,
            pack("setandseq_core.concept_file.file").save_concept,
        )
        save_concept(concept_of(info=replace(concept.info, **info), layers=concept.layers), path)
        return path

    return write


def test_the_card_of_a_concept(card: Call, save: Call, load_wan: Call, make_concept: Call) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    stage = {"steps": 500, "seconds": 12.5, "losses": [1.0]}
    training = {"date": "2026-11-22T10:00:00", "frames": "many", "secret": {"a": 1}, "set": stage, "sequence": "yes"}
    path = save(make_concept(load_wan()), thumbnail=buffer.getvalue(), training=training)
    found = card("bee.safetensors")
    assert base64.b64decode(found.pop("thumbnail").removeprefix("data:image/png;base64,")) == buffer.getvalue()
    assert found == {
        "name": "bee",
        "static_prompt": "a [v] bee",
        "motion_prompt": "a [v] bee, [u] dancing",
        "tokens": ["[v]", "[u]"],
        "base_name": "Wan 2.1 T2V (128 wide, 2 blocks)",
        "experts": [],
        "author": "",
        "tags": [],
        "rank": 2,
        "bytes": path.stat().st_size,
        "training": {"date": "2026-11-22T10:00:00", "set": {"steps": 500, "seconds": 12.5}},
    }


def test_a_concept_fits_the_file_it_was_made_for(card: Call, save: Call, load_wan: Call, make_concept: Call) -> None:
    save(make_concept(load_wan()))
    assert card("bee.safetensors", MODEL)["misfit"] == ""


@pytest.mark.parametrize(("seed", "heads", "why"), [(1, 1, "other weights"), (0, 2, "of another size")])
def test_a_concept_of_another_model_says_why(
    card: Call, save: Call, load_wan: Call, make_concept: Call, seed: int, heads: int, why: str
) -> None:
    save(make_concept(load_wan(seed=seed, heads=heads)))
    assert why in card("bee.safetensors", MODEL)["misfit"]


def test_smaller_numbers_still_fit(
    card: Call, save: Call, load_wan: Call, make_concept: Call, folders: Path, wan_file: Call
) -> None:
    save(make_concept(load_wan()))
    for name, dtype in (("half", torch.bfloat16), ("eight", torch.float8_e4m3fn)):
        weights = {f"model.diffusion_model.{key}": value.to(dtype) for key, value in load_file(wan_file()).items()}
        save_file(weights, folders / "diffusion_models" / f"{name}.safetensors")
        assert card("bee.safetensors", f"{name}.safetensors")["misfit"] == ""


def test_what_the_model_file_does_not_tell_is_left_open(
    card: Call, save: Call, load_wan: Call, make_concept: Call, folders: Path
) -> None:
    save(make_concept(load_wan()))
    models = folders / "diffusion_models"
    save_file({"blocks.0.self_attn.q.weight": torch.zeros(128, 64, dtype=torch.uint8)}, models / "packed.safetensors")
    save_file({"input_blocks.0.weight": torch.zeros(4, 4)}, models / "image.safetensors")
    (models / "cut.safetensors").write_bytes(b"\x80\x04cos\nsystem\n")
    (models / "old.pt").write_bytes(b"\x80\x04cos\nsystem\n")
    for name in ("packed.safetensors", "image.safetensors", "cut.safetensors", "old.pt", "none", "../wan.safetensors"):
        assert card("bee.safetensors", name)["misfit"] is None, name


def test_a_concept_of_two_experts_fits_the_file_of_either_and_tells_both(
    pack: Pack, card: Call, load_wan: Call, make_concept: Call, folders: Path, wan_file: Call
) -> None:
    high, low = make_concept(load_wan()), make_concept(load_wan(seed=1), seed=2)
    high.info.config["time_range"] = [0.875, 1.0]
    low.info.config["time_range"] = [0.0, 0.875]
    path = folders / "dynamic_concepts" / "bee.safetensors"
    pack("setandseq_core.concept_file.file").save_concept(replace(high, low_noise=low), path)
    for seed in (1, 2):
        (folders / "diffusion_models" / f"{seed}.safetensors").symlink_to(wan_file(seed=seed))
    found = card("bee.safetensors", MODEL)
    assert found["misfit"] == card("bee.safetensors", "1.safetensors")["misfit"] == ""
    assert "other weights" in card("bee.safetensors", "2.safetensors")["misfit"]
    assert found["rank"] == 2
    assert [(each["name"], each["noise"]) for each in found["experts"]] == [
        ("high_noise", "0.875 to 1"),
        ("low_noise", "0 to 0.875"),
    ]


@pytest.mark.parametrize("name", ["", "ant.safetensors", "../bee.safetensors", "/etc/passwd"])
def test_only_names_of_the_list_are_opened(card: Call, name: str) -> None:
    assert list(card(name)) == ["error"]
    assert card(name)["error"].startswith(f"There is no concept '{name}'")


def test_a_damaged_file_says_so(card: Call, save: Call, load_wan: Call, make_concept: Call) -> None:
    path = save(make_concept(load_wan()))
    path.write_bytes(path.read_bytes()[:100])
    assert "cut short" in card("bee.safetensors")["error"]


def test_tokens_of_other_clips_are_known_too(card: Call, save: Call, load_wan: Call, make_concept: Call) -> None:
    training = {"static_prompts": ["a [v] bee", "a [w] ant", 7], "motion_prompts": ["a [w] ant [x] digging"]}
    save(make_concept(load_wan()), training=training)
    assert card("bee.safetensors")["tokens"] == ["[v]", "[u]", "[w]", "[x]"]
