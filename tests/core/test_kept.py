"""The space that training states and prior clips take is limited, and the oldest are removed first."""

import os
from pathlib import Path

import pytest

from setandseq_core.training.kept import bound_kept, empty_kept, kept_bytes, kept_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three of our files with 100 bytes each, of which the prior clip is the oldest, and one file that is not ours."""
    for age, name in enumerate(("sequence_c", "set_b", "prior_a"), 1):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(b"x" * 100)
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "mine.safetensors").write_bytes(b"x" * 100)
    return tmp_path


def test_only_what_is_ours_counts(folder: Path) -> None:
    assert kept_bytes(folder) == 300
    assert [path.stem for path in kept_files(folder)] == ["prior_a", "set_b", "sequence_c"]


@pytest.mark.parametrize(
    ("most", "left"),
    [
        (300, ["mine", "prior_a", "sequence_c", "set_b"]),
        (299, ["mine", "sequence_c", "set_b"]),
        (150, ["mine", "sequence_c"]),
        (0, ["mine"]),
    ],
)
def test_the_oldest_go_first(folder: Path, most: int, left: list[str]) -> None:
    assert bound_kept(folder, most) == 100 * (4 - len(left))
    assert sorted(path.stem for path in folder.iterdir()) == left


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert bound_kept(tmp_path / "none") == 0


def test_all_of_it_is_removed_and_the_folder_if_it_is_empty_then(folder: Path) -> None:
    assert empty_kept(folder) == 300 and [path.name for path in folder.iterdir()] == ["mine.safetensors"]
    (folder / "mine.safetensors").unlink()
    (folder / "set_b.safetensors").write_bytes(b"x")
    assert empty_kept(folder) == 1 and not folder.exists()
