"""The options of the command line are an interface, so they are frozen."""

import dataclasses
import inspect
import shlex
from pathlib import Path
from typing import get_type_hints

import click
import pytest

from setandseq_core.cli.console import PROGRAM
from setandseq_core.cli.main import commands, main

MODEL_OPTIONS = {"--model": "embedded", "--vae": None, "--text-encoder": None, "--device": "auto", "--dtype": "float32"}
STRENGTHS = {"--identity-strength": 1.0, "--motion-strength": 1.0}
FROZEN = {
    "train": {
        **dict.fromkeys(("--video", "--static-prompt", "--motion-prompt", "--dynamic-prompt", "--out", "--name")),
        **dict.fromkeys(("--identity-token", "--motion-token", "--mask", "--prior", "--identity-lora")),
        "--leave-out": False,
        **dict.fromkeys(("--start", "--length")),
        **dict.fromkeys(("--config", "--seed", "--rank", "--frames", "--size")),
        **{"--float32": False},
        **MODEL_OPTIONS,
    },
    "train-many": {
        **{"manifest": None, "--out": None, "--workers": None, "--address": None, "--resume": False},
        **dict.fromkeys(("--clip", "--image-model", "--config", "--seed", "--rank", "--frames", "--size")),
        **MODEL_OPTIONS,
    },
    "plan": {
        **dict.fromkeys(("--memory", "--speed", "--config", "--seed", "--rank", "--frames", "--size")),
        **MODEL_OPTIONS,
    },
    "prior": {
        **{"--prompts": None, "--clips": 16, "--out": None, "--seed": 0, "--frames": None, "--size": None},
        **{"--steps": 20, "--guidance": 0.0, "--sampler": "euler"},
        **MODEL_OPTIONS,
    },
    "sample": {
        **{"--concept": None, **STRENGTHS, "--prompt": None, "--negative-prompt": "", "--out": None},
        **{"--seed": 0, "--steps": 20, "--guidance": None, "--frames": None, "--size": None},
        **MODEL_OPTIONS,
    },
    "compose": {
        **{"--concept": None, "--motion-from": None, "--method": "add", "--region": None, "--prompt": None},
        **{"--region-prompt": None, "--negative-strength": 1.0},
        **dict.fromkeys(("--identity-schedule", "--motion-schedule"), ((0.0, 1.0),)),
        **{"--negative-prompt": "", "--out": None, "--float32": False},
        **{"--seed": 0, "--steps": 20, "--guidance": None, "--frames": None, "--size": None},
        **MODEL_OPTIONS,
    },
    "evaluate": {
        **dict.fromkeys(("--reference", "--video", "--prompt")),
        **dict.fromkeys(("--identity-token", "--motion-token"), ""),
        **{"--clip": None, "--image-model": None, "--device": "auto", "--json": None},
    },
    "inspect": {"file": None},
    "export": {"file": None, "--out": None, **STRENGTHS},
    "clean": {"folder": Path("."), "--yes": False},
    "demo": {"--out": Path("demo_output")},
}
TRAIN = ["train", "--video", "a.mp4", "--static-prompt", "a", "--out", "b"]


def defaults(name: str) -> dict[str, object]:
    """The value of each option that is not given, by the option's name on the command line."""
    command = commands.commands[name]
    values = command.make_context(name, [], resilient_parsing=True).params
    shown = {each.name: each.opts[0] for each in command.params}
    return {shown[key]: None if value == () else value for key, value in values.items()}


def test_commands_options_and_defaults_are_frozen() -> None:
    found = {name: defaults(name) for name in commands.commands}
    assert found == FROZEN


@pytest.mark.parametrize("name", FROZEN)
def test_every_command_and_option_has_help_and_an_example(name: str) -> None:
    command = commands.commands[name]
    assert command.help and all(each.help for each in command.params if isinstance(each, click.Option))
    text = command.get_help(click.Context(command, info_name=f"{PROGRAM} {name}"))
    assert all(len(line) <= 80 for line in text.partition("Example:")[0].splitlines())
    example = text.partition(f"Example:\n    {PROGRAM} {name} ")[2]
    assert command.make_context(name, shlex.split(example.replace("\\\n", " "))).params


@pytest.mark.parametrize("name", FROZEN)
def test_every_command_is_one_typed_function_of_its_options(name: str) -> None:
    """Options that belong together arrive as one dataclass with a field for each option."""
    callback = commands.commands[name].callback
    assert callback is not None
    function = inspect.unwrap(callback)
    arguments = set()
    for argument, kind in get_type_hints(function).items():
        arguments |= {item.name for item in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {argument}
    assert arguments - {"return"} == {each.name for each in commands.commands[name].params}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["mix"], "No such command 'mix'"),
        (["inspect", "a.safetensors", "--colour"], "No such option '--colour'"),
        (["export", "a.safetensors", "--ou", "b.safetensors"], "--out"),
        (
            TRAIN,
            "Either --motion-prompt or --dynamic-prompt is needed; neither is there",
        ),
        (
            [
                "train",
                "--video",
                "a",
                "--static-prompt",
                "a",
                "--out",
                "b",
                "--motion-prompt",
                "a",
                "--dynamic-prompt",
                "b",
            ],
            "Either --motion-prompt or --dynamic-prompt is needed; both are there",
        ),
        (["sample", "--out", "a.mp4", "--size", "64"], "width x height"),
        (["sample", "--out", "a.mp4", "--frames", "none"], "must be a number of frames"),
        (
            ["sample", "--out", "a.mp4", "--prompt", "a", "--frames", "16"],
            "4n+1 and at least 5. Choose a number such as 13",
        ),
        (["sample", "--out", "a.mp4", "--steps", "0"], "0 is not in the range x>=1"),
        (["sample", "--out", "a.mp4", "--seed", "-1"], "seed"),
        (["sample", "--out", "a.mp4", "--seed", "4294967296"], "0<=x<=4294967295"),
        (["sample", "--out", "a.mp4", "--guidance", "nan"], "finite"),
        (["sample", "--out", "a.mp4", "--guidance", "high"], "'high' must be a finite number"),
        (["sample", "--out", "a.mp4", "--dtype", "int8"], "'int8' is not one of 'float32', 'bfloat16'"),
        (["compose", "--motion-schedule", "0.5"], "share:strength pairs"),
        (["compose", "--region", "0.5,0,0.2,1"], "left,top,right,bottom"),
    ],
)
def test_wrong_options_are_refused_as_usual(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())
