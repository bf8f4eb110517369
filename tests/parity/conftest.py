"""ComfyUI on the CPU, for comparisons with diffusers."""

from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import torch

from setandseq_core.backbones.loaded import LoadedBackbone
from tools.server.folder import NoComfyUIError, comfyui_folder


@pytest.fixture(scope="module")
def same_layers_and_shift() -> Callable[[LoadedBackbone, Any], None]:
    """Compares a backbone with ComfyUI's patcher of the same weights: the weights of its layers, and its shift."""

    def compare(backbone: LoadedBackbone, patcher: Any) -> None:
        for native, path in backbone.layers.items():
            theirs = patcher.model.diffusion_model.get_parameter(f"{native}.weight")
            assert torch.equal(theirs, backbone.module.get_parameter(f"{path}.weight")), native
        middle = patcher.model.model_sampling.percent_to_sigma(0.5)
        assert backbone.shift == pytest.approx(middle / (1 - middle), rel=1e-5)

    return compare


@pytest.fixture(scope="module")
def comfyui() -> Iterator[ModuleType]:
    """The modules of ComfyUI that these tests use, on the CPU."""
    try:
        folder = comfyui_folder()
    except NoComfyUIError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        args = import_module("comfy.cli_args").args
        patch.setattr(args, "cpu", True)  # read once, when model_management is first imported
        for name in ("latent_formats", "lora", "model_management", "sd", "utils"):
            import_module(f"comfy.{name}")
        comfy = import_module("comfy")
        yield comfy
        comfy.model_management.unload_all_models()
