"""The contents that a manifest of many concepts may have, and the places that its error messages name."""

import shutil
from pathlib import Path

import pytest

from setandseq_core.cli.main import main
from setandseq_core.cli.manifest import read_manifest
from setandseq_core.config import MethodConfig
from setandseq_core.embedded.files import CLIP_FILE

TOML = """# of a studio
[[concept]]
name = "lantern"
clip = "lantern.mp4"
static_prompt = "a sks lantern"
dynamic_prompt = "zub swinging"
identity_token = "sks"
settings = { seed = 7, set_stage = { steps = 3 } }
"""
SECOND = TOML.replace('"lantern"', '"Lantern 2"')
CSV = """name,clip,static_prompt,dynamic_prompt,identity_token,settings.seed,settings.set_stage.steps
lantern,lantern.mp4,a sks lantern,zub swinging,sks,7,3

"Lantern 2",lantern.mp4,"a sks lantern, red",zub swinging,sks,,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the clip that the manifests name."""
    shutil.copy(CLIP_FILE, tmp_path / "lantern.mp4")
    return tmp_path


def test_toml_and_csv_say_the_same(folder: Path) -> None:
    (folder / "a.toml").write_text(TOML + SECOND, encoding="utf-8")
    (folder / "a.csv").write_text(CSV, encoding="utf-8-sig")
    (folder / "b.csv").write_text(CSV.replace("a sks lantern, red", "red").replace(",", ";"), encoding="utf-8")
    (from_toml, second), (from_csv, other) = (
        read_manifest(folder / f"a.{kind}", MethodConfig()) for kind in ("toml", "csv")
    )
    assert from_toml == from_csv
    assert from_toml.clip == folder / "lantern.mp4" and second.name == other.name == "Lantern 2"
    assert from_toml.words.motion_prompt == "a sks lantern, zub swinging" and from_toml.words.identity_token == "sks"
    assert (from_toml.config.seed, from_toml.config.set_stage.steps) == (7, 3)
    assert other.config == MethodConfig() and other.words.static_prompt == "a sks lantern, red"


def test_an_inline_list_of_concepts_is_read_too(folder: Path) -> None:
    entry = 'clip = "lantern.mp4", static_prompt = "a", dynamic_prompt = "b"'
    (folder / "a.toml").write_text(f'concept = [{{name = "1", {entry}}}, {{name = "2", {entry}}}]', encoding="utf-8")
    assert [entry.name for entry in read_manifest(folder / "a.toml", MethodConfig())] == ["1", "2"]


def refusal(manifest: Path, text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The error of a manifest that is refused before any work."""
    manifest.write_text(text, encoding="utf-8")
    out = manifest.parent / "out"
    assert main(["train-many", str(manifest), "--out", str(out)]) == 2
    assert not out.exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TOML.replace("[[concept]]", "[[concept]"), "a.toml is no TOML file: Expected ']]' at the end of an array"),
        (TOML.replace("[[concept]]", "[[concept]"), "(at line 2, column 10)"),
        (TOML + 'name = """', "(at line 9, column 1"),
        (TOML.replace("concept]]", "concepts]]"), "a.toml, line 2, column 3: 'concepts' is unknown"),
        (TOML + TOML, "a.toml, line 11, column 1: the concept of line 3, column 1 is named 'lantern', too"),
        (TOML + TOML.replace('"lantern"', '"Lantern"'), "is named 'Lantern', too"),
        (TOML.replace("name", "nome"), "a.toml, line 3, column 1: 'nome' is unknown"),
        (TOML.replace('name = "lantern"', ""), "a.toml, line 2, column 1: this concept has no 'name'"),
        (TOML.replace("dynamic_prompt", "motion_token"), "either 'motion_prompt' or 'dynamic_prompt' is needed"),
        (TOML.replace('"lantern"', '"../lantern"'), "line 3, column 1: '../lantern' cannot name a file"),
        (TOML.replace('"zub swinging"', "7"), "a.toml, line 6, column 1: 'dynamic_prompt' is 7; it must be text"),
        (TOML.replace('"sks"', '"skz"'), "a.toml, line 7, column 1: The identity token is 'skz'"),
        (TOML.replace("steps = 3", "stepz = 3"), "a.toml, line 8, column 38: Unknown setting 'set_stage.stepz'"),
        (TOML.replace("steps = 3", "steps = -3"), "a.toml, line 8, column 38: The setting 'steps' is -3"),
        (TOML + '[concept.settings.prior]\nshare = "a"', "(at line 9"),
        (TOML.replace("settings =", "# settings = 1\nsettings =") + SECOND.replace("7", "-7"), "line 17, column 14"),
        (TOML.replace("lantern.mp4", "lost.mp4"), "a.toml, line 4, column 1: "),
        (TOML.replace("sks lantern", 'sks \\"clip = 1') + SECOND.replace("lantern.mp4", "a.mp4"), "line 12, column 1"),
        ("", "a.toml has no concepts"),
        ("concept = 1", "is no list of tables"),
    ],
)
def test_a_fault_in_toml_is_told_by_line_and_column_before_any_work(
    text: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refusal(folder / "a.toml", text, capsys)


def test_a_header_inside_a_text_begins_no_concept(folder: Path) -> None:
    text = TOML.replace('"a sks lantern"', '"""a sks lantern\n[[concept]]\n"""') + "settings2 = 1"
    (folder / "a.toml").write_text(text, encoding="utf-8")
    with pytest.raises(Exception, match="a.toml, line 11, column 1: 'settings2' is unknown"):
        read_manifest(folder / "a.toml", MethodConfig())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CSV.replace("identity_token", "token"), "a.csv, line 2, column 5: 'token' is unknown"),
        (CSV.replace("sks,7,3", "sks,7,x"), "a.csv, line 2, column 7: The setting 'set_stage.steps' is 'x'"),
        (CSV.replace("sks,,", "sks,,,,"), "a.csv, line 4, column 8: the first line names 7 columns"),
        (CSV.replace("sks,,", "skz,,"), "a.csv, line 4, column 5: The identity token is 'skz'"),
        (CSV.replace('lantern, red"', 'lantern" red'), "a.csv, line 4: ',' expected after '\"'"),
        (CSV.splitlines()[0], "a.csv has no concepts"),
    ],
)
def test_a_fault_in_csv_is_told_by_line_and_column_before_any_work(
    text: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refusal(folder / "a.csv", text, capsys)
