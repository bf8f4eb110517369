"""The interface is told, before anything runs, what training takes from a clip."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tools.tiny_models import TINY, load_tiny
from tools.videos import MAKERS

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own
Pack = Callable[[str], Any]
Call = Callable[..., Any]
MODEL = "wan.safetensors"
EMBEDDED = "setandseq_embedded_transformer.safetensors"
DETECTED = [name for name, tiny in TINY.items() if tiny.detected]
INPUTS: dict[str, Any] = {
    "static_prompt": "a [v] block",
    "motion_prompt": "a [v] block [u] sliding",
    "frames": 33,
    "width": 0,
    "height": 0,
    "image_fps": 24.0,
}


@pytest.fixture
def fit(pack: Pack, folders: Path, wan_file: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Asks for the clip of a model and a video in ComfyUI's folders."""
    paths = pack("nodes.fit").folder_paths
    (folders / "diffusion_models").mkdir()
    (folders / "diffusion_models" / MODEL).symlink_to(wan_file())
    paths.add_model_folder_path("diffusion_models", str(folders / "diffusion_models"))
    (tmp_path / "input").mkdir()
    monkeypatch.setattr(paths, "get_input_directory", lambda: str(tmp_path / "input"))

    def ask(**values: object) -> dict[str, Any]:
        return pack("nodes.fit").fit_of({name: str(value) for name, value in values.items()})

    return ask


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("phone.mov", {}),
        ("anamorphic.mp4", {"frames": 9}),
        ("small.gif", {"start": 0.5, "length": 0.7}),
        ("screen.mp4", {"width": 32}),
        ("small.webm", {"width": 32, "height": 80}),
    ],
)
def test_it_is_the_clip_that_reference_clip_makes(
    fit: Call, run: Call, load_wan: Call, tmp_path: Path, kind: str, asked: dict[str, Any]
) -> None:
    video = MAKERS[kind](tmp_path / "input" / kind)
    found = fit(model=MODEL, video=kind, **{"frames": 33, **asked})
    source = import_module("comfy_api.latest").InputImpl.VideoFromFile(str(video))
    _, images = run("ReferenceClip", model=load_wan(), video=source, **{**INPUTS, **asked}).result
    assert (found["frames"], *found["size"][::-1]) == tuple(images.shape[:3])
    assert found["fps"] == 16 and found["crop"] <= found["source"]


@pytest.mark.parametrize("name", DETECTED)
def test_a_file_tells_the_format_that_its_model_has(pack: Pack, tmp_path: Path, name: str) -> None:
    model = load_tiny(name, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    files = pack("nodes.model_files")
    if pack("nodes.families").family_of(model).refusal:
        with pytest.raises(pack("setandseq_core.errors").BackboneError):
            files.file_format(file)
    else:
        assert files.file_format(file) == pack("nodes.backbone").model_format(model)


def test_the_example_clip_of_the_embedded_model(fit: Call) -> None:
    assert fit(model=EMBEDDED, video="SetSeq_ExampleClip") == {
        "most_seconds": 17 / 16,
        "source": (256, 256),
        "crop": (256, 256),
        "size": (64, 64),
        "frames": 17,
        "fps": 16.0,
    }


def test_what_training_would_refuse_is_said_before(fit: Call, tmp_path: Path) -> None:
    MAKERS["screen.mp4"](tmp_path / "input" / "screen.mp4")
    assert "must be multiples of 16" in fit(model=MODEL, video="screen.mp4", width=50, height=50)["error"]
    short = fit(model=MODEL, video="screen.mp4", length=0.1)
    assert "is too short" in short["error"] and short["most_seconds"] == 33 / 16


@pytest.mark.parametrize("video", ["", "none.mp4", "../secret.mp4", "/etc/passwd"])
def test_a_video_that_is_not_in_the_folders_is_not_looked_at(fit: Call, tmp_path: Path, video: str) -> None:
    MAKERS["screen.mp4"](tmp_path / "secret.mp4")
    assert fit(model=MODEL, video=video, frames=17) == {"most_seconds": 17 / 16}


def test_a_model_that_is_not_known_tells_nothing(fit: Call) -> None:
    assert fit(model="unknown.gguf", video="SetSeq_ExampleClip") == {}


def test_a_number_that_is_none_is_refused(fit: Call) -> None:
    with pytest.raises(ValueError, match="many"):
        fit(model=MODEL, video="SetSeq_ExampleClip", frames="many")
