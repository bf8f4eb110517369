"""The commands, options and files that docs/scale.md quotes.

Its line with `accelerate launch` runs in tests/core/test_processes.py, its script in tests/comfyui/test_pipeline.py.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from setandseq_core.cli.main import commands
from setandseq_core.cli.manifest import Entry, read_manifest
from setandseq_core.config import PAPER

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
LINES = re.findall(r"^    (\S.*)$", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL), re.MULTILINE)
OF_SLURM = {"--array", "--gres", "--requeue", "--wrap"}


def line_of(start: str) -> list[str]:
    """The words of the only line on the page with that beginning."""
    (line,) = [each for each in LINES if each.startswith(start)]
    return shlex.split(line)


def parsed(words: list[str]) -> click.Context:
    """Parse one of our commands; an unknown option or a bad value is an error."""
    command = commands.commands[words[0]]
    return command.make_context(words[0], words[1:])


def launch_options() -> set[str]:
    """Every option that `accelerate launch` has."""
    launch = pytest.importorskip("accelerate.commands.launch")
    return set(launch.launch_command_parser()._option_string_actions)


def test_every_line_is_one_that_a_test_runs() -> None:
    kinds = ("accelerate launch ", "python -m setandseq_core train-many ", "sbatch ")
    assert len(LINES) == len(kinds)
    for start in kinds:
        assert line_of(start)


def test_every_option_that_is_named_exists() -> None:
    ours = {name for command in commands.commands.values() for each in command.params for name in each.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", PAGE))
    assert {"--resume", "--workers", "--address", "--use_fsdp", "--multi_gpu", "--clip"} <= named
    assert named - ours - launch_options() - OF_SLURM == set()


def test_packages_to_install_are_the_optional_ones() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(re.findall(r"python -m pip install (\w+)", PAGE)) == set(extras) == {"accelerate", "ray"}


@pytest.mark.parametrize("added", [[], ["--multi_gpu"], ["--use_fsdp", "--fsdp_version", "2"]], ids=" ".join)
def test_the_launcher_reads_its_line_with_what_is_to_be_added(added: list[str]) -> None:
    launch = pytest.importorskip("accelerate.commands.launch")
    words = line_of("accelerate launch ")
    assert f"`{' '.join(added)}`" in PAGE or not added
    found, _, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(added + words[2:]))
    assert found.num_processes == 4 and found.module and found.training_script == "setandseq_core"
    assert (found.use_fsdp, found.multi_gpu) == ("--use_fsdp" in added, "--multi_gpu" in added)
    train = [word for word in found.training_script_args if word != "..."]
    prompts = ["--static-prompt", "a sks lantern", "--dynamic-prompt", "zub", "--out", "lantern.safetensors"]
    assert parsed([*train, *prompts]).params["device"] == "cuda"


def test_our_command_reads_its_line() -> None:
    found = parsed(line_of("python -m setandseq_core train-many ")[3:]).params
    assert (found["manifest"], found["out"]) == (Path("characters.toml"), Path("characters"))
    assert (found["model"], found["dtype"]) == ("path/to/Wan", "bfloat16")


def manifest_of(folder: Path, name: str, text: str) -> Entry:
    """The only entry of a manifest, which is written next to the clip that it names."""
    clip = ROOT / "setandseq_core/embedded/demo_clip.mp4"
    (folder / "lantern.mp4").write_bytes(clip.read_bytes())
    (folder / name).write_text(text, encoding="utf-8")
    (entry,) = read_manifest(folder / name, PAPER)
    return entry


def test_the_manifest_is_read_and_the_same_as_csv(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    entry = manifest_of(tmp_path, "characters.toml", text)
    assert (entry.name, entry.config.seed, entry.config.set_stage.steps) == ("lantern", 7, 200)
    columns = re.findall(r'"(settings\.(?!toml)[\w.]+)"', PAGE)
    values = {key: value for key, value in tomllib.loads(text)["concept"][0].items() if key != "settings"}
    values |= dict(zip(columns, ("7", "200"), strict=True))
    rows = (",".join(values), ",".join(f'"{value}"' for value in values.values()))
    assert manifest_of(tmp_path, "characters.csv", "\n".join(rows)) == entry


def test_every_task_of_the_array_does_its_own_line(tmp_path: Path) -> None:
    words = line_of("sbatch ")
    assert {word.partition("=")[0] for word in words if word.startswith("--")} == OF_SLURM
    task = words[words.index("--wrap") + 1]
    trainings = [f"{sys.executable} -m setandseq_core train --help > help.txt", "echo two", "echo three"]
    (tmp_path / "trainings.txt").write_text("\n".join(trainings) + "\n", encoding="utf-8")
    for number, told in ((1, ""), (2, "two\n"), (3, "three\n")):
        environment = os.environ | {"SLURM_ARRAY_TASK_ID": str(number), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            ["bash", "-c", task], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (0, told), done.stderr
    assert "--dynamic-prompt" in (tmp_path / "help.txt").read_text(encoding="utf-8")
