"""Our folders among ComfyUI's, and the names of files."""

from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from setandseq_core.embedded.files import TRANSFORMER_FILE, VAE_FILE

pytestmark = pytest.mark.filterwarnings("ignore")  # ComfyUI's own warnings
Pack = Callable[[str], Any]


def test_concepts_are_a_model_folder(pack: Pack, folders: Path) -> None:
    paths = import_module("folder_paths")
    assert paths.get_folder_paths("dynamic_concepts") == [str(folders / "dynamic_concepts")]
    assert (folders / "dynamic_concepts").is_dir()
    for name in ("bee.safetensors", "bee.safetensors.new", "bee.webp", "notes.txt"):
        (folders / "dynamic_concepts" / name).touch()
    assert paths.get_filename_list("dynamic_concepts") == ["bee.safetensors"]


def test_extra_model_paths_are_searched_after_our_own(pack: Pack, folders: Path, tmp_path: Path) -> None:
    paths = import_module("folder_paths")
    paths.folder_names_and_paths.pop("dynamic_concepts")
    paths.add_model_folder_path("dynamic_concepts", str(tmp_path / "extra"))  # as extra_model_paths.yaml would set it
    for folder in (tmp_path / "extra", folders / "dynamic_concepts"):
        folder.mkdir(exist_ok=True)
        (folder / "bee.safetensors").touch()
    (tmp_path / "extra" / "ant.safetensors").touch()
    pack("nodes.folders").register()
    assert paths.get_filename_list("dynamic_concepts") == ["ant.safetensors", "bee.safetensors"]
    find = pack("nodes.folders").find_concept
    assert find("ant.safetensors") == tmp_path / "extra" / "ant.safetensors"
    assert find("bee.safetensors") == folders / "dynamic_concepts" / "bee.safetensors"


def test_a_default_of_extra_model_paths_comes_first(
    pack: Pack, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, config = import_module("folder_paths"), tmp_path / "paths.yaml"
    config.write_text(f"mine:\n  base_path: {tmp_path}\n  is_default: true\n  dynamic_concepts: extra\n")
    monkeypatch.setattr(import_module("comfy.cli_args").args, "extra_model_paths_config", [[str(config)]])
    paths.folder_names_and_paths.pop("dynamic_concepts")
    import_module("utils.extra_config").load_extra_path_config(str(config))
    pack("nodes.folders").register()
    extra, own = str(tmp_path / "extra"), str(folders / "dynamic_concepts")
    assert paths.get_folder_paths("dynamic_concepts") == [extra, own]
    pack("nodes.folders").register()
    assert paths.get_folder_paths("dynamic_concepts") == [extra, own]
    assert pack("nodes.folders").concepts_folder() == tmp_path / "extra"


def test_a_concept_is_found_by_the_name_of_another_system(pack: Pack, folders: Path) -> None:
    (folders / "dynamic_concepts" / "animals").mkdir()
    bee = folders / "dynamic_concepts" / "animals" / "bee.safetensors"
    bee.touch()
    assert pack("nodes.folders").find_concept("animals\\bee.safetensors") == bee


def test_what_a_killed_save_left_is_removed_at_the_start(pack: Pack, folders: Path) -> None:
    left = folders / "dynamic_concepts" / "animals" / ".setandseq-0a1b2c3d.partial"
    left.mkdir(parents=True)
    (left / "content").touch()
    (left / "lock").touch()
    pack("nodes.folders").register()
    assert not left.exists() and left.parent.exists()


def test_dates_in_names_are_filled_in(pack: Pack) -> None:
    dated, now = pack("nodes.folders").dated, datetime.now()
    assert dated("%year%/bee_%month%%day%") in {f"{when:%Y}/bee_{when:%m%d}" for when in (now, datetime.now())}
    assert dated("%date:yyyy-MM-dd%_bee") in {f"{when:%Y-%m-%d}_bee" for when in (now, datetime.now())}
    assert dated("100% bee") == "100% bee"


def test_a_name_too_long_for_file_systems_is_refused(pack: Pack) -> None:
    name = "/".join(["animals"] * 750)
    with pytest.raises(pack("setandseq_core.errors").ConceptFileError, match="has 5999 characters.*Give a shorter one"):
        pack("nodes.folders").safe_name(name)
    assert "Give a shorter one" in pack("nodes").SaveDynamicConcept.validate_inputs(name=name)


def test_registering_twice_changes_nothing(pack: Pack, folders: Path) -> None:
    paths = import_module("folder_paths")
    before = {kind: list(where) for kind, (where, _) in paths.folder_names_and_paths.items()}
    pack("nodes.folders").register()
    assert {kind: list(where) for kind, (where, _) in paths.folder_names_and_paths.items()} == before


def test_embedded_weights_are_in_the_stock_lists(folders: Path) -> None:
    paths = import_module("folder_paths")
    assert TRANSFORMER_FILE.name in paths.get_filename_list("diffusion_models")
    assert VAE_FILE.name in paths.get_filename_list("vae")


def test_training_is_kept_in_the_user_folder(pack: Pack, folders: Path) -> None:
    user = Path(import_module("folder_paths").get_user_directory())
    assert pack("nodes.folders").training_folder() == user / "setandseq" / "training"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bee", "bee"),
        ("bee.safetensors", "bee"),
        ("bee.v2", "bee.v2"),
        ("Biene im Löwenzahn", "Biene im Löwenzahn"),
        ("animals/bee", "animals/bee"),
        ("animals\\bee", "animals/bee"),
        ("../../bee", "bee"),
        ("/etc/bee", "etc/bee"),
        ("C:\\Windows\\bee", "C_/Windows/bee"),
        ("a/./../.. /bee", "a/bee"),
        ("~/.ssh/bee", "~/ssh/bee"),
        ("bee\x00\n\ud800*?", "bee____"),
        ("con", "_con"),
        ("nul.tar/lpt1", "_nul.tar/_lpt1"),
        ("ö" * 200, "ö" * 75),
    ],
)
def test_names_are_safe_on_every_system(pack: Pack, folders: Path, name: str, expected: str) -> None:
    assert pack("nodes.folders").safe_name(name) == expected


@pytest.mark.parametrize("name", ["", "   ", "..", "animals/", "/", ".safetensors"])
def test_no_name_is_an_error(pack: Pack, folders: Path, name: str) -> None:
    with pytest.raises(pack("setandseq_core.errors").ConceptFileError, match="is no name for a file. Give one such as"):
        pack("nodes.folders").safe_name(name)


def test_a_damaged_file_is_not_taken_for_the_same(pack: Pack, tmp_path: Path) -> None:
    folders, core = pack("nodes.folders"), pack("setandseq_core.concept_file.safetensors")
    tensors = {"a": torch.ones(8)}
    metadata = {"modelspec.hash_sha256": f"0x{core.data_sha256(tensors)}"}
    saved = core.FileContent(tensors=tensors, metadata=metadata)
    first = folders.save_new(saved, tmp_path, "x")
    assert folders.save_new(saved, tmp_path, "x") == first
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    second = folders.save_new(saved, tmp_path, "x")
    assert second.name == "x_2.safetensors"
    assert torch.equal(load_file(second)["a"], tensors["a"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.safetensors", "x_2.safetensors"]
