"""The options of the command line: an interface, so they are frozen."""

import argparse
import shlex
from pathlib import Path

import pytest

from setandseq_core.cli.options import build_parser, main

MODEL_OPTIONS = {"--model": "embedded", "--vae": None, "--text-encoder": None, "--device": "auto", "--dtype": "float32"}
STRENGTHS = {"--identity-strength": 1.0, "--motion-strength": 1.0}
FROZEN = {
    "train": {
        **dict.fromkeys(("--video", "--static-prompt", "--motion-prompt", "--dynamic-prompt", "--out", "--name")),
        **dict.fromkeys(("--identity-token", "--motion-token", "--mask", "--prior")),
        **dict.fromkeys(("--config", "--seed", "--rank", "--frames", "--size")),
        **MODEL_OPTIONS,
    },
    "prior": {
        **{"--prompts": None, "--clips": 16, "--out": None, "--seed": 0, "--frames": None, "--size": None},
        **MODEL_OPTIONS,
    },
    "sample": {
        **{"--concept": None, **STRENGTHS, "--prompt": None, "--negative-prompt": "", "--out": None},
        **{"--seed": 0, "--steps": 20, "--guidance": 4.0, "--frames": None, "--size": None},
        **MODEL_OPTIONS,
    },
    "compose": {
        **{"--concept": None, "--motion-from": None, "--method": "add", "--region": None, "--prompt": None},
        **{"--region-prompt": None, "--negative-strength": 1.0},
        **dict.fromkeys(("--identity-schedule", "--motion-schedule"), ((0.0, 1.0),)),
        **{"--negative-prompt": "", "--out": None},
        **{"--seed": 0, "--steps": 20, "--guidance": 4.0, "--frames": None, "--size": None},
        **MODEL_OPTIONS,
    },
    "evaluate": {
        **dict.fromkeys(("--reference", "--video", "--prompt")),
        **dict.fromkeys(("--identity-token", "--motion-token"), ""),
        **{"--clip": None, "--image-model": None, "--device": "auto", "--json": None},
    },
    "inspect": {"file": None},
    "export": {"file": None, "--out": None, **STRENGTHS},
    "demo": {"--out": Path("demo_output")},
}


def subcommands() -> dict[str, argparse.ArgumentParser]:
    return next(a.choices for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))


def test_commands_options_and_defaults_are_frozen() -> None:
    found = {
        name: {
            a.option_strings[-1] if a.option_strings else a.dest: a.default for a in parser._actions if a.dest != "help"
        }
        for name, parser in subcommands().items()
    }
    assert found == FROZEN


def test_every_command_and_option_has_help_and_an_example() -> None:
    for name, parser in subcommands().items():
        assert all(action.help for action in parser._actions)
        example = parser.format_help().partition(f"example:\n  python -m setandseq_core {name} ")[2]
        assert build_parser().parse_args([name, *shlex.split(example.replace("\\\n", " "))]).command == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["mix"], "invalid choice"),
        (["inspect", "a.safetensors", "--colour"], "unrecognized arguments: --colour"),
        (["export", "a.safetensors", "--ou", "b.safetensors"], "--out"),
        (
            ["train", "--video", "a.mp4", "--static-prompt", "a", "--out", "b"],
            "--motion-prompt --dynamic-prompt is required",
        ),
        (["train", "--motion-prompt", "a", "--dynamic-prompt", "b"], "not allowed with"),
        (["sample", "--out", "a.mp4", "--size", "64"], "width x height"),
        (["sample", "--out", "a.mp4", "--frames", "16"], "4n+1"),
        (["sample", "--out", "a.mp4", "--steps", "0"], "whole number from 1"),
        (["sample", "--out", "a.mp4", "--seed", "-1"], "seed"),
        (["sample", "--out", "a.mp4", "--seed", "4294967296"], "from 0 to 4294967295"),
        (["sample", "--out", "a.mp4", "--guidance", "nan"], "finite"),
        (["sample", "--out", "a.mp4", "--guidance", "high"], "'high' must be a finite number"),
        (["sample", "--out", "a.mp4", "--dtype", "int8"], "invalid choice"),
        (["compose", "--motion-schedule", "0.5"], "share:strength pairs"),
        (["compose", "--region", "0.5,0,0.2,1"], "left,top,right,bottom"),
    ],
)
def test_wrong_options_are_refused_as_usual(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
