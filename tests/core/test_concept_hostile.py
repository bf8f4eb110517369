"""Files from strangers: each is the golden concept with one thing wrong, and each must be refused clearly."""

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from setandseq_core.concept_file.file import load_concept
from setandseq_core.errors import ConceptFileError, ConceptMismatchError

GOLDEN = (Path(__file__).parent / "data" / "concept_v1.safetensors").read_bytes()
HEADER_BYTES = struct.unpack("<Q", GOLDEN[:8])[0]
DATA = GOLDEN[8 + HEADER_BYTES :]
BASIS = "blocks.0.self_attn.q.identity_basis"
RESIDUAL = "blocks.1.ffn.0.motion_residual"
Header = dict[str, Any]


def golden_header() -> Header:
    return json.loads(GOLDEN[8 : 8 + HEADER_BYTES])


def pack(header: Header | str | bytes, data: bytes = DATA) -> bytes:
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw + data


def refuse(tmp_path: Path, content: bytes, match: str, error: type[Exception] = ConceptFileError) -> None:
    path = tmp_path / "stranger.safetensors"
    path.write_bytes(content)
    with pytest.raises(error, match=match) as caught:
        load_concept(path)
    assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()


def with_metadata(**changes: str) -> bytes:
    header = golden_header()
    header["__metadata__"] |= {key.replace("__", "."): value for key, value in changes.items()}
    return pack(header)


def with_info(change: Callable[[dict[str, Any]], object]) -> bytes:
    info = json.loads(golden_header()["__metadata__"]["setandseq.info"])
    change(info)
    return with_metadata(setandseq__info=json.dumps(info))


def without_hash(header: Header) -> Header:
    del header["__metadata__"]["modelspec.hash_sha256"]
    return header


def test_the_untouched_file_loads(tmp_path: Path) -> None:
    path = tmp_path / "same.safetensors"
    path.write_bytes(pack(golden_header()))
    assert load_concept(path).rank == 2


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(ConceptFileError, match="no file"):
            load_concept(path)


@pytest.mark.parametrize("size", [0, 1, 7])
def test_an_empty_file_is_refused(tmp_path: Path, size: int) -> None:
    refuse(tmp_path, GOLDEN[:size], "empty or cut short")


@pytest.mark.parametrize("size", range(8, len(GOLDEN), 97))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, size: int) -> None:
    refuse(tmp_path, GOLDEN[:size], "cut short")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94." * 9, "not a .safetensors"),  # a pickle
        (b"PK\x03\x04" * 50, "not a .safetensors"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "not a .safetensors"),
        (struct.pack("<Q", 2**40) + b"{}", "not a .safetensors"),
        (pack("[1, 2]", b""), "is a list, an object"),
        (pack("nonsense", b""), "not valid JSON"),
        (pack(b"\xff\xfe\x00", b""), "not valid JSON"),
        (pack("[" * 100_000, b""), "not valid JSON"),
        (pack(json.dumps(golden_header()).encode("utf-16")), "not valid JSON"),
        (pack(json.dumps(golden_header()).encode("utf-32")), "not valid JSON"),
        (pack(json.dumps(golden_header()).encode("utf-8-sig")), "not valid JSON"),
        (pack('{"__metadata__": {"a": "' + "b" * 5 * 2**20 + '"}}', b""), "at most 4194304 allowed"),
        (pack("[" + "[]," * 200_000 + "[]]", b""), "over 100000 values"),
        (with_metadata(setandseq__info='{"a": [' + "0," * 200_000 + "0]}"), "over 100000 values"),
        (pack('{"a": ' + "9" * 5000 + "}", b""), "not valid JSON|exactly dtype"),
        (pack('{"__metadata__": {}, "__metadata__": {}}', b""), "twice"),
        (pack('{"__metadata__": {"setandseq.version": 1}}', b""), "object of texts"),
        (pack('{"__metadata__": []}', b""), "object of texts"),
        (pack("{}", b""), "setandseq.version"),
        (GOLDEN + b"more", "describes"),
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    refuse(tmp_path, content, match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"data_offsets": [4, 36]}, "overlap or hole"),
        ({"data_offsets": [0, 10**9]}, "cannot lie in"),
        ({"data_offsets": [48, 0]}, "cannot lie in"),
        ({"data_offsets": [-48, 0]}, "list of sizes"),
        ({"data_offsets": [0.0, 48.0]}, "list of sizes"),
        ({"data_offsets": [True, 48]}, "list of sizes"),
        ({"data_offsets": "0-48"}, "list of sizes"),
        ({"shape": [6, -2]}, "list of sizes"),
        ({"shape": [2**47, 2**47]}, "cannot lie in"),
        ({"shape": [2**70, 0]}, "list of sizes"),
        ({"shape": [1] * 50}, "list of sizes"),
        ({"shape": None}, "list of sizes"),
        ({"dtype": "I32"}, "dtype 'I32'"),
        ({"dtype": ["F32"]}, "dtype"),
        ({"extra": 1}, "exactly dtype"),
    ],
)
def test_a_tensor_entry_that_lies_is_refused(tmp_path: Path, change: Header, match: str) -> None:
    header = golden_header()
    name = min((key for key in header if key != "__metadata__"), key=lambda key: header[key]["data_offsets"])
    header[name] |= change
    refuse(tmp_path, pack(header), match)


def test_two_tensors_on_the_same_bytes_are_refused(tmp_path: Path) -> None:
    header = golden_header()
    header["blocks.9.ffn.0.identity_basis"] = header[BASIS]
    refuse(tmp_path, pack(header), "overlap or hole")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (with_metadata(setandseq__version="4"), "newer version: update the pack"),
        (with_metadata(setandseq__version="one"), "'one' is unknown"),
        (with_metadata(setandseq__version="9" * 5000), "is unknown"),
        (with_metadata(setandseq__info="{"), "'setandseq.info' is not valid JSON"),
        (with_metadata(setandseq__info="[]"), "'setandseq.info' is a list"),
        (with_metadata(setandseq__info="{}"), "lacks .*'author'"),
        (with_metadata(setandseq__info='{"name": NaN}'), "NaN"),
        (with_metadata(setandseq__info='{"a": ' * 50_000), "not valid JSON"),
        (with_metadata(setandseq__info=" " * (2 * 2**20)), "the limit is"),
        (with_info(lambda info: info.pop("static_prompt")), "lacks .*'static_prompt'"),
        (with_info(lambda info: info.update(extra=1)), "unknown .*'extra'"),
        (with_info(lambda info: info.update(name=5)), "'setandseq.info.name' is a int, str is needed"),
        (with_info(lambda info: info.update(name="a" * 20_000)), "a text of 20000"),
        (with_info(lambda info: info.update(name="\x1b[2J")), "control character"),
        (with_info(lambda info: info.update(name="\ud800")), "control character"),
        (with_info(lambda info: info.update(tags="lantern")), "'setandseq.info.tags' is a str"),
        (with_info(lambda info: info.update(tags=[1])), "list of texts"),
        (with_info(lambda info: info.update(config=None)), "'setandseq.info.config' is a NoneType"),
        (with_info(lambda info: info.update(config={"a": [[[[[[[[[]]]]]]]]]})), "nested more than"),
        (with_info(lambda info: info.update(training={"loss": 10**400})), "training.loss' is out of range"),
        (with_info(lambda info: info.update(training={"\x1b": 1})), "control character"),
        (with_info(lambda info: info.update(base=[])), "'setandseq.info.base' is a list"),
        (with_info(lambda info: info["base"].pop("family")), "'setandseq.info.base' lacks .*'family'"),
        (with_info(lambda info: info["base"].update(layers={})), "same layers"),
        (with_info(lambda info: info["base"]["projections"].popitem()), "same layers"),
        (
            with_info(lambda info: info["base"]["projections"].update({"blocks.1.ffn.0": "1"})),
            "blocks.1.ffn.0' must be",
        ),
        (with_info(lambda info: info["base"]["projections"].update({"blocks.1.ffn.0": 1e200})), "from -64 to 64"),
        (with_info(lambda info: info["base"]["layers"].update({"blocks.1.ffn.0": [8]})), "not two sizes"),
        (with_info(lambda info: info["base"]["layers"].update({"blocks.1.ffn.0": [8, 2**40]})), "not two sizes"),
    ],
)
def test_hostile_info_is_refused_by_field(tmp_path: Path, content: bytes, match: str) -> None:
    refuse(tmp_path, content, match)


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0) + b"\0" * 40


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("http://example.com/a.png", "data URI"),
        ("data:image/svg+xml;base64,PHN2Zy8+", "data URI"),
        ("data:image/png;base64,@@@@", "not valid base64"),
        ("data:image/png;base64," + base64.b64encode(b"no image").decode(), "not a whole PNG or JPEG"),
        ("data:image/png;base64," + base64.b64encode(b"GIF89a" + b"\0" * 99).decode(), "not a whole PNG or JPEG"),
        ("data:image/png;base64," + base64.b64encode(png_header(100_000, 100_000)).decode(), "not a whole PNG or JPEG"),
        ("data:image/png;base64," + "A" * (3 * 2**20), "over 1048576 bytes"),
    ],
)
def test_a_hostile_thumbnail_is_refused(tmp_path: Path, uri: str, match: str) -> None:
    refuse(tmp_path, with_metadata(modelspec__thumbnail=uri), match)


def test_missing_and_extra_tensors_are_named(tmp_path: Path) -> None:
    header = golden_header()
    header["blocks.1.ffn.0.something"] = header.pop(RESIDUAL)
    refuse(
        tmp_path, pack(header), r"missing \['blocks.1.ffn.0.motion_residual'\], unknown \['blocks.1.ffn.0.something'\]"
    )


def test_no_tensors_at_all_is_refused(tmp_path: Path) -> None:
    header = {"__metadata__": golden_header()["__metadata__"]}
    refuse(tmp_path, pack(header, b""), "no layers", ConceptMismatchError)


@pytest.mark.parametrize("shape", [[2, 6], [12], [12, 1], [6, 2, 1], [3, 4]])
def test_a_wrong_shape_names_the_layer_and_both_shapes(tmp_path: Path, shape: list[int]) -> None:
    header = golden_header()
    header[BASIS]["shape"] = shape
    refuse(tmp_path, pack(header), r"blocks\.0\.self_attn\.q.*\[6, 2\]", ConceptMismatchError)


def test_scalar_coefficients_are_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}
    header = {
        f"blocks.0.self_attn.q.{part}": dict(entry) for part in ("coefficients", "identity_basis", "motion_residual")
    }
    for place, value in enumerate(header.values()):
        value["data_offsets"] = [4 * place, 4 * place + 4]
    header["__metadata__"] = golden_header()["__metadata__"]
    refuse(tmp_path, pack(header, b"\0" * 12), "rank 1 or more", ConceptMismatchError)


def test_a_layer_that_the_base_lacks_is_named(tmp_path: Path) -> None:
    header = {key.replace("blocks.1.ffn.0", "blocks.7.ffn.2"): value for key, value in golden_header().items()}
    refuse(tmp_path, pack(header), r"blocks\.7\.ffn\.2", ConceptMismatchError)


def test_damaged_tensors_are_noticed(tmp_path: Path) -> None:
    refuse(tmp_path, pack(golden_header(), bytes([DATA[0] ^ 1]) + DATA[1:]), "do not match the hash")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_name_the_layer(tmp_path: Path, value: float) -> None:
    header = without_hash(golden_header())
    start = header[RESIDUAL]["data_offsets"][0]
    data = DATA[:start] + struct.pack("<f", value) + DATA[start + 4 :]
    refuse(tmp_path, pack(header, data), r"blocks\.1\.ffn\.0.*motion_residual", ConceptMismatchError)


@pytest.mark.parametrize("value", [1e12, -1e30])
def test_changes_that_no_model_survives_name_the_layer(tmp_path: Path, value: float) -> None:
    header = without_hash(golden_header())
    start = header[RESIDUAL]["data_offsets"][0]
    data = DATA[:start] + struct.pack("<f", value) + DATA[start + 4 :]
    refuse(tmp_path, pack(header, data), r"blocks\.1\.ffn\.0.*changes its weight by", ConceptMismatchError)


@pytest.mark.parametrize(
    "name", ["diffusion_model.blocks.0.ffn.0.lora_A.weight", "lora_unet_blocks_0_ffn_0.lora_down.weight"]
)
def test_a_plain_lora_is_recognised(tmp_path: Path, name: str) -> None:
    header = {name: {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}}
    refuse(tmp_path, pack(header, b"\0" * 32), "plain LoRA.*LoraLoaderModelOnly")


def test_metadata_of_other_tools_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "tagged.safetensors"
    path.write_bytes(with_metadata(rating="5", modelspec__title="renamed by a manager"))
    assert load_concept(path).info.name == "golden"
