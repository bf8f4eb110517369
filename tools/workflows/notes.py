"""What the notes in the workflows on the embedded model say, in Markdown."""

START_NOTE = """
## Start here

Press **Run** and look at the two train nodes. Nothing needs to be downloaded, and it takes a few minutes, also without
a graphics card.

**What you see**

- *Reference Clip* has a clip of a bee and two prompts: `[v]` stands for how it looks, `[u]` for how it moves.
- *Train Identity LoRA* learns the look, then *Train Motion Residual* the movement. Each shows its losses, the time that
  is left, and a sample of what it has learned so far. **Stop and keep** goes on with what there is.
- *Save Dynamic Concept* writes `models/dynamic_concepts/my_concept.safetensors`.
- At the right are two videos: the clip again, and the same creature on another background.

**And then**

- Change the background in the green prompt and press **Run**: only the video is made again, nothing is trained twice.
- Drag the point of *Compose Concepts* down: less of the movement.
- **2 Use and edit a concept** takes the file, without training. **1 Train on the embedded model** makes more videos.

**A clip of your own**

1. Double-click an empty place, type *Load Video*, press Enter and click where it shall be. Upload your clip in it.
2. Draw a line from its VIDEO to **video** of *Reference Clip*, in place of the example's.
3. Say there in both prompts what is seen; the check below them tells what is missing. Give *Save Dynamic Concept*
   another name, and change the green prompts.

This small model draws 64x64 pixels and simple shapes. For real videos take **4 Train on your clip**: the same with
Wan 2.1.
"""

TRAIN_NOTE = """
## A concept from one clip

Press **Run**. Nothing needs to be downloaded: the small model that comes with this pack learns the creature of the
example clip, its look and its way of moving, and then puts it into new videos. That takes some minutes on a
processor, less on a graphics card. Run it again and nothing is trained twice.

**What happens**

1. *Reference Clip* cuts the clip to what the model takes. Its two prompts say what is seen: `[v]` stands for the
   look, `[u]` for the movement.
2. *Train Identity LoRA* learns the look from single frames. *Train Motion Residual* keeps that look and learns the
   movement.
3. *Save Dynamic Concept* writes `models/dynamic_concepts/my_concept.safetensors`.
4. *Compose Concepts* puts the concept on the model. Its strengths say how much of the look and of the movement.
5. Seven videos are saved in `output/setandseq`.

**What to try**

- Another prompt: the model knows shapes, colours, motions and backgrounds, such as `a large [v] creature [u]
  wandering and a small yellow ring circling on a green dotted background`.
- Another clip: *Load Video* with your file, its VIDEO to **video** of *Reference Clip*. This model draws 64x64 pixels,
  17 frames, simple shapes.
- Then open **2 Use and edit a concept**.
"""

USE_NOTE = """
## A saved concept in new videos

*Load Dynamic Concept* between the model and the sampler is all that a concept needs. Choose its file there, and
press **Run**.

The file `my_concept.safetensors` is what **0 Start here** and **1 Train on the embedded model** save: run one of them
first. Concepts are in `models/dynamic_concepts`; press **R** when a new one is not in the list.

**Three videos**

- *As learned*: the prompt comes out of the file.
- *Edited*: another background, in your words. Keep `[v]` for the look and `[u]` for the movement.
- *Half the motion*: *Compose Concepts* with motion strength 0.5. Try 0, 1.5 or -1, and the same with the identity.

The card on the node shows its clip, its prompts and the model that it was made for. A click copies a prompt; **to
prompt** writes it into the green prompt.
"""

COMPOSE_NOTE = """
## Two concepts in one video

*Compose Concepts* takes any number of concepts: connect one and another input appears. Each has its own strengths
on its *Load Dynamic Concept*; those on *Compose Concepts* count for all.

**You need two concepts of the same model**

1. Run **1 Train on the embedded model** with *prior_share* 0 on *Regularisation*: prior clips teach that a sentence
   about two things shows the model's own. It saves `my_concept.safetensors`.
2. Run it again with a clip of yours (*Load Video* in place of *Example Clip*), with other tokens in both prompts of
   *Reference Clip*, such as `[w]` and `[x]`. It saves `my_concept_2.safetensors`.
3. Choose both files here (press **R** if they are not in the list). The prompt on the right names both; the prompt
   below each concept names that one alone, in the same place.

`regions` gives each concept its part of the picture, from left to right, and its own prompt there; *masks* draw other
parts. `add` lets all act everywhere, which is right for one concept and mixes the looks of two.
"""
