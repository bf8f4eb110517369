"""Three nodes that the two workflows for beginners share: one trains, one makes a video, one saves it.

The workflows have four columns, which a window of 1366x768 shows at 100 %, and no wire passes below a node.
"""

from tools.workflows.graph import Graph, Subgraph
from tools.workflows.slots import Output

LEFT_WIDTH = 290
"""Width of the first column: the model and the clip."""
TRAIN_PLACE, TRAIN_SIZE = (325, 0), (420, 560)
MAKE_PLACE, MAKE_WIDTH = (775, 0), 250
SAVE_PLACE, SAVE_WIDTH = (1055, 0), 225


def train_and_make(
    graph: Graph,
    maker: Subgraph,
    *,
    model: Output,
    clip: Output,
    vae: Output,
    video: Output,
    prompts: tuple[str, str],
    heights: tuple[int, int],
    saved_as: str,
) -> None:
    """Add the columns after the first one.

    Args:
        maker: makes a video with the trained model.
        prompts: the look prompt and the motion prompt.
        heights: heights of the node that makes a video and of the node that saves it.
        saved_as: path prefix under which ComfyUI saves the video, such as "setandseq/start".
    """
    trained = graph.add(
        "SetSeq_TrainConcept",
        TRAIN_PLACE,
        size=TRAIN_SIZE,
        model=model,
        clip=clip,
        vae=vae,
        video=video,
        static_prompt=prompts[0],
        motion_prompt=prompts[1],
    )
    made = graph.use(
        maker,
        MAKE_PLACE,
        (MAKE_WIDTH, heights[0]),
        model=trained["model"],
        clip=trained["clip"],
        vae=trained["vae"],
    )
    graph.add("SaveVideo", SAVE_PLACE, size=(SAVE_WIDTH, heights[1]), video=made["VIDEO"], filename_prefix=saved_as)
