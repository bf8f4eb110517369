"""Nodes that show what the server process looks like from inside."""

import sys
import time

from comfy.model_management import throw_exception_if_processing_interrupted

import nodes


class Modules:
    """Lists the imported packages, and the file that `import nodes` finds."""

    RETURN_TYPES = ()
    FUNCTION = "show"
    CATEGORY = "other"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def show(self):
        packages = sorted({name.partition(".")[0] for name in list(sys.modules)})
        return {"ui": {"packages": packages, "nodes_file": [str(nodes.__file__)], "sys_path": list(sys.path)}}


class Wait:
    """Waits for a number of seconds, and can be cancelled."""

    RETURN_TYPES = ()
    FUNCTION = "wait"
    CATEGORY = "other"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seconds": ("FLOAT", {"default": 1.0})}}

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            throw_exception_if_processing_interrupted()
            time.sleep(0.05)
        return {}


NODE_CLASS_MAPPINGS = {"Other_Modules": Modules, "Other_Wait": Wait}
