from pathlib import Path

import pytest

from setandseq_core.config import MethodConfig, config_from_dict, read_config
from setandseq_core.errors import ConfigError


def test_defaults_are_the_papers_table_6():
    config = MethodConfig()
    assert (config.set_stage.steps, config.sequence_stage.steps) == (150, 400)
    assert (config.set_stage.coefficient_dropout, config.sequence_stage.coefficient_dropout) == (0.8, 0.5)
    assert (config.betas, config.weight_decay, config.gradient_clipping) == ((0.9, 0.99), 0.01, 0.05)
    assert config.set_stage.learning_rate == config.sequence_stage.learning_rate == 1e-4
    assert config.set_stage.batch == config.sequence_stage.batch == 8 and config.token_masking == 0.1


def test_toml_changes_only_what_it_names(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_text("rank = 8\nweight_decay = 0\n[sequence_stage]\nsteps = 7\n")
    config = read_config(file)
    assert (config.rank, config.weight_decay, config.sequence_stage.steps) == (8, 0.0, 7)
    assert config.sequence_stage.coefficient_dropout == 0.5 and config.set_stage == MethodConfig().set_stage


def test_settings_round_trip_through_the_concept_file_form():
    config = config_from_dict({"rank": 8, "betas": [0.8, 0.9], "set_stage": {"steps": 3}})
    assert config_from_dict(config.as_dict()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rnak": 8}, "Unknown setting 'rnak'. Known ones: .*rank"),
        ({"set_stage": {"step": 8}}, "Unknown setting 'set_stage.step'"),
        ({"set_stage": 8}, "must be a section"),
        ({"rank": 0}, "'rank' is 0; it must be from 1 to 1024"),
        ({"rank": "8"}, "'rank' is '8'; it must be of type int"),
        ({"rank": True}, "'rank' is True; it must be of type int"),
        ({"seed": -1}, "'seed' is -1"),
        ({"token_masking": 1.0}, r"'token_masking' is 1.0; it must be in \[0, 1\)"),
        ({"set_stage": {"coefficient_dropout": 1.0}}, "coefficient_dropout"),
        ({"set_stage": {"still_frames": 4}}, "'still_frames' is 4; it must be 4n"),
        ({"set_stage": {"time_shift": 0.05}}, "'time_shift' is 0.05; it must be 0, or from 0.1 to 100"),
        ({"set_stage": {"time_shift": -1.0}}, "'time_shift' is -1.0"),
        ({"sequence_stage": {"time_shift": 1.0}}, "Unknown setting 'sequence_stage.time_shift'"),
        ({"sequence_stage": {"batch": 0}}, "'batch' is 0; it must be 1 or more"),
        ({"set_stage": {"learning_rate": float("nan")}}, "learning_rate"),
        ({"betas": [0.9]}, "two values"),
        ({"time_range": [0.9, 0.1]}, "two rising values"),
        ({"time_range": [0.1]}, "two rising values"),
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(values)


@pytest.mark.parametrize("content", [None, b"rank = ", b"\xff\xfe"])
def test_unreadable_settings_file_is_named(tmp_path: Path, content):
    file = tmp_path / "config.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="config.toml cannot be read"):
        read_config(file)


@pytest.mark.parametrize("name", ["weight_decay", "gradient_clipping"])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_a_setting_that_is_not_finite_is_refused(name: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(f"{name} = {value}\n")
    with pytest.raises(ConfigError, match=name):
        read_config(tmp_path / "settings.toml")


def test_a_byte_order_mark_in_a_settings_file_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("\ufeffrank = 3\n", encoding="utf-8")
    assert read_config(tmp_path / "settings.toml").rank == 3
