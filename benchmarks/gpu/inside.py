"""Loads ComfyUI and the pack into this process, on the GPU if there is one: no server, no queue, no browser."""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import torch

from tools.server.folder import ROOT, comfyui_folder

PACK = "pack_on_the_card"
GIB = 1024**3
Pack = Callable[[str], Any]
"""Returns a module of the pack by its name inside the pack, such as "nodes.backbone"."""


def card() -> torch.device:
    """The device on which models compute in this process."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def start(*, dynamic_vram: bool, hold_gib: float = 0.0) -> Pack:
    """Load ComfyUI and the pack. Call it only once in a process, before anything else imports ComfyUI.

    Args:
        dynamic_vram: load weights when a layer runs, as ComfyUI does by default on NVIDIA cards.
        hold_gib: use the card as if it had only that much memory, in GiB; 0 uses all of it.
    Raises:
        NoComfyUIError: there is no ComfyUI.
        RuntimeError: dynamic VRAM is requested but does not start.
    """
    sys.path.insert(0, str(comfyui_folder()))
    import_module("comfy.cli_args").args.cpu = card().type == "cpu"
    control = import_module("comfy_aimdo.control")
    if dynamic_vram and card().type == "cuda":
        control.init(simple_vram_headroom=None, nvml_pressure=True)
    memory: Any = import_module("comfy.model_management")
    out_of_reach = int(total_bytes() - hold_gib * GIB) if hold_gib else 0
    if out_of_reach > 0:
        torch.cuda.set_per_process_memory_fraction(1 - out_of_reach / total_bytes())
        memory.EXTRA_RESERVED_VRAM += out_of_reach
    if dynamic_vram and card().type == "cuda":
        if not control.init_devices([(0, max(out_of_reach, 0))]):
            raise RuntimeError("ComfyUI's dynamic VRAM does not start on this machine.")
        control.set_log_error()
        patcher: Any = import_module("comfy.model_patcher")
        patcher.CoreModelPatcher = patcher.ModelPatcherDynamic
        placement: Any = import_module("comfy.memory_management")
        placement.aimdo_enabled = True
    return load_pack()


def load_pack() -> Pack:
    """Import the pack under its own name, as ComfyUI does."""
    spec = spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{ROOT} holds no pack.")
    module = sys.modules[PACK] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda name: import_module(f"{PACK}.{name}")


def total_bytes() -> int:
    """The card's memory in bytes."""
    return torch.cuda.get_device_properties(0).total_memory


def taken_bytes() -> int:
    """The card's memory in bytes that this process and all others use now; 0 without a card."""
    if card().type == "cpu":
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free


def unload() -> None:
    """Make ComfyUI unload all models, and give the memory back to the card."""
    memory = import_module("comfy.model_management")
    memory.unload_all_models()
    memory.soft_empty_cache(True)
