"""The pack inside a real ComfyUI, in this process: its models, folders and nodes, without a server's queue.

The pack is loaded under its own name, as in ComfyUI; `import nodes` finds ComfyUI's own file.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from setandseq_core.backbones.wan_names import native_transformer
from tools.server.folder import ROOT, NoComfyUIError, comfyui_folder

PACK = "pack_under_test"
RANK = 2


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """ComfyUI's `nodes` on the CPU, with its message queue and empty folders."""
    try:
        folder = comfyui_folder()
    except NoComfyUIError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr(import_module("comfy.cli_args").args, "cpu", True)
        base = tmp_path_factory.mktemp("comfyui")
        import_module("folder_paths").set_user_directory(str(base / "user"))
        loop = asyncio.new_event_loop()
        import_module("server").PromptServer(loop)
        yield import_module("nodes")
        import_module("comfy.model_management").unload_all_models()
        loop.close()


@pytest.fixture(scope="session")
def pack(comfyui: ModuleType) -> Callable[[str], Any]:
    """A module of the pack by its name inside it, such as "nodes.models"."""
    spec = spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = sys.modules[PACK] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda name: import_module(f"{PACK}.{name}")


@pytest.fixture
def run(pack: Callable[[str], Any]) -> Callable[..., Any]:
    """Runs one of our nodes as ComfyUI does, by the name of its class; returns its NodeOutput."""

    def execute(name: str, /, **inputs: Any) -> Any:
        node = getattr(pack("nodes"), name)
        unique_id = import_module("comfy_api.latest").io.Hidden.unique_id
        with torch.inference_mode():
            return node.PREPARE_CLASS_CLONE({"hidden_inputs": {unique_id: "7"}}).execute(**inputs)

    return execute


@pytest.fixture
def folders(comfyui: ModuleType, pack: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder in which our folders are registered."""
    paths = import_module("folder_paths")
    known = {kind: (list(where), suffixes) for kind, (where, suffixes) in paths.folder_names_and_paths.items()}
    known.pop("dynamic_concepts", None)
    known["loras"] = ([str(tmp_path / "models" / "loras")], {".safetensors"})
    monkeypatch.setattr(paths, "folder_names_and_paths", known)
    monkeypatch.setattr(paths, "filename_list_cache", {})
    monkeypatch.setattr(paths, "models_dir", str(tmp_path / "models"))
    pack("nodes.folders").register()
    pack("nodes.embedded").register_weights()
    return tmp_path / "models"


@pytest.fixture(scope="session")
def wan_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a native file of a random Wan of two blocks, always the same for the same arguments."""
    folder = tmp_path_factory.mktemp("wan")

    def make(seed: int = 0, heads: int = 1, in_channels: int = 16) -> Path:
        file = folder / f"{seed}_{heads}_{in_channels}.safetensors"
        if not file.exists():
            torch.manual_seed(seed)
            sizes: dict[str, Any] = {
                "num_attention_heads": heads,
                "ffn_dim": 64,
                "num_layers": 2,
                "in_channels": in_channels,
            }
            save_file(native_transformer(WanTransformer3DModel(**sizes, out_channels=16).state_dict()), file)
        return file

    return make


@pytest.fixture
def load_wan(comfyui: ModuleType, wan_file: Callable[..., Path]) -> Callable[..., Any]:
    """Loads such a file as ComfyUI does; returns its MODEL."""

    def load(*, dtype: torch.dtype | None = torch.float32, **sizes: int) -> Any:
        options = {} if dtype is None else {"dtype": dtype}
        with torch.inference_mode():
            return import_module("comfy.sd").load_diffusion_model(str(wan_file(**sizes)), model_options=options)

    return load


def _scaled_fp8(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Store the linear layers of the blocks as 8-bit floats, each with a scale, as in many Wan files."""
    found = dict(weights, scaled_fp8=torch.zeros(2, dtype=torch.float8_e4m3fn))
    for key, weight in weights.items():
        if key.startswith("blocks.") and weight.ndim == 2 and key.endswith(".weight"):
            scale = weight.abs().max() / 448
            found[key] = (weight / scale).to(torch.float8_e4m3fn)
            found[key.removesuffix("weight") + "scale_weight"] = scale
    return found


@pytest.fixture
def load_scaled_wan(comfyui: ModuleType, wan_file: Callable[..., Path], tmp_path: Path) -> Callable[[], Any]:
    """Loads the random Wan from a file of scaled 8-bit floats; returns its MODEL."""

    def load() -> Any:
        save_file(_scaled_fp8(load_file(wan_file())), tmp_path / "scaled.safetensors")
        with torch.inference_mode():
            return import_module("comfy.sd").load_diffusion_model(str(tmp_path / "scaled.safetensors"))

    return load


@pytest.fixture
def image_model(comfyui: ModuleType) -> Any:
    """A MODEL of the Stable Diffusion 1 kind, as small as possible."""
    config = import_module("comfy.supported_models").SD15(
        {
            "image_size": 8,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 32,
            "num_res_blocks": [1],
            "channel_mult": [1],
            "num_head_channels": 32,
            "use_spatial_transformer": True,
            "transformer_depth": [0],
            "transformer_depth_output": [0, 0],
            "transformer_depth_middle": 0,
            "context_dim": 768,
        }
    )
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    return import_module("comfy.model_patcher").ModelPatcher(config.get_model({}), cpu, cpu)


@pytest.fixture
def vace_model(comfyui: ModuleType, wan_file: Callable[..., Path]) -> Any:
    """A VACE MODEL with the blocks of the random Wan, just as the released VACE has those of Wan 2.1 T2V."""
    sizes = {"dim": 128, "ffn_dim": 64, "num_heads": 1, "num_layers": 2, "vace_layers": 1, "vace_in_dim": 96}
    operations = import_module("comfy.ops").disable_weight_init
    vace: Any = import_module("comfy.ldm.wan.model").VaceWanModel("vace", **sizes, operations=operations)
    weights = {key: torch.zeros_like(weight) for key, weight in vace.state_dict().items()}
    return import_module("comfy.sd").load_diffusion_model_state_dict(weights | load_file(wan_file()))


@pytest.fixture
def make_concept(pack: Callable[[str], Any]) -> Callable[..., Any]:
    """Makes a random concept for a MODEL, always the same for the same arguments, with an effect that shows."""

    def make(model: Any, name: str = "bee", seed: int = 1) -> Any:
        core, base = pack("setandseq_core.concept"), pack("nodes.models").model_fingerprint(model)
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

        layers = {
            layer: core.ConceptLayer(
                identity_basis_OR=random(num_out, RANK) / 4,
                coefficients_RI=random(RANK, num_in),
                motion_residual_RI=random(RANK, num_in),
            )
            for layer, (num_out, num_in) in base.layers.items()
        }
        info = core.ConceptInfo(
            name=name,
            static_prompt="a [v] bee",
            motion_prompt="a [v] bee, [u] dancing",
            identity_token="[v]",
            motion_token="[u]",
            base=base,
            base_name=pack("nodes.models").model_name(model),
            config={"rank": RANK},
            training={"seed": seed},
        )
        return core.Concept(info=info, layers=layers)

    return make


@pytest.fixture
def velocity(comfyui: ModuleType) -> Callable[[Any], Tensor]:
    """A MODEL's velocity for a fixed input; ComfyUI's memory manager loads the MODEL."""
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(1, 16, 2, 4, 4, generator=generator)
    text = torch.randn(1, 48, 4096, generator=generator)

    def answer(model: Any) -> Tensor:
        with torch.inference_mode():
            import_module("comfy.model_management").load_models_gpu([model])
            found = model.model.diffusion_model(latents, torch.tensor([625.0]), context=text)
            return found.clone()

    return answer
