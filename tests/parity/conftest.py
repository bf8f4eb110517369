"""ComfyUI on the CPU, for comparisons with diffusers."""

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import pytest

from tools.server.folder import NoComfyUIError, comfyui_folder


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
