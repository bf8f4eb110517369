"""Notes in the workflows on the embedded model, in Markdown."""

START_NOTE = """
## Start here

Press **Run**. Minutes later you have a *concept*: how the bee looks and moves, in one small file.

**Train Concept** learns it: `[v]` is the look, `[u]` the motion. **Make a Video** uses it: change its prompt and run
again.

**Your own clip**: press *Choose a video…* on **Train Concept** and describe it in both prompts. For real videos open
**4**.
"""

TRAIN_NOTE = """
## A concept from one clip

Press **Run**; you need no download. The small model included with this pack learns the look and the motion of the
creature in the example clip, then puts it into new videos. This takes some minutes on a processor, less on a graphics
card. If you run it again, nothing is trained twice.

**What happens**

1. *Reference Clip* prepares the clip for the model. Its two prompts describe the clip: `[v]` stands for the look,
   `[u]` for the motion.
2. *Train Identity LoRA* learns the look from single frames. *Train Motion Residual* keeps that look and learns the
   motion.
3. *Save Dynamic Concept* writes `models/dynamic_concepts/my_concept.safetensors`.
4. *Compose Concepts* applies the concept to the model. Its two strengths set how much look and motion you get.
5. Seven videos are saved in `output/setandseq`.

**What to try**

- A different prompt: the model knows shapes, colours, motions and backgrounds, such as `a large [v] creature [u]
  wandering and a small yellow ring circling on a green dotted background`.
- A different clip: press *Choose a video…* on *Reference Clip*. This model draws simple shapes, 64x64 pixels, 17
  frames.
- Then open **2 Use and edit a concept**.
"""

USE_NOTE = """
## A saved concept in new videos

To use a concept, you only need *Load Dynamic Concept* between the model and the sampler. Choose its file there and
press **Run**.

**0 Start here** and **1 Train on the embedded model** save the file `my_concept.safetensors`, so run one of them
first. Concepts are in `models/dynamic_concepts`; press **R** if a new one is not in the list.

**Three videos**

- *As trained*: the prompt comes from the file.
- *Edited*: a new background, in your words. Keep `[v]` for the look and `[u]` for the motion.
- *Half the motion*: *Compose Concepts* with motion strength 0.5. Try 1.5 or -1, and do the same with the look. At 0,
  only the prompt moves it: write `a large [v] creature standing still`.

The card on the node shows its clip, its prompts and the model it was made for. Click a prompt to copy it; **to
prompt** writes it into the green prompt.
"""

COMPOSE_NOTE = """
## Two concepts in one video

*Compose Concepts* takes any number of concepts: connect one and a new input appears. Each concept has its own
strengths on its *Load Dynamic Concept*; the strengths on *Compose Concepts* multiply all of them.

**You need two concepts of the same model**

1. Run **1 Train on the embedded model**. The file is `my_concept.safetensors`.
2. Run it again with your own clip (*Choose a video…* on *Reference Clip*) and different tokens in both prompts there,
   such as `[w]` and `[x]`. The file is `my_concept_2.safetensors`.
3. Choose both files here (press **R** if they are not in the list). The prompt on the right names both concepts; the
   prompt below each concept names only that one, in the same place.

`regions` gives each concept its own part of the picture, from left to right, and its own prompt there; *masks* set
other parts. `add` applies all concepts everywhere. That is right for one concept, but blends the looks of two.
"""
