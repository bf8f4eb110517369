"""Set-and-Sequence: learn how something looks and how it moves from one clip (Abdal et al. 2025, arXiv 2502.14844).

The map. Six files show the whole method:

    lora            identity basis, coefficients and motion residual as PEFT layers; coefficient dropout
    flow            x_t, target velocity and loss of rectified flow
    train           the set stage and the sequence stage: two loops
    sample          clips from a model, with a concept applied
    concept         what was learned, and its file
    backbone        what all of this needs from a video model

What they stand on:

    learn           from clips to a concept
    reference       a clip and what is said of it
    prompts         static and motion prompt; token masking
    config          settings of the method; TOML
    runs            seeded steps, saved state, resume, progress, a clean stop
    checkpoints     files that are replaced in one step
    concept_info    what a concept file says about itself
    concept_export  a concept as a plain LoRA, and as text for people
    fingerprint     which base model a concept was made for
    strict_safetensors  reading of files from strangers
    video           video files in and out; `fitting` and `containers` are its parts
    metrics         figures of a generated clip; `motion` follows points, `metrics_models` loads CLIP and DINO
    sheet           contact sheets
    backbones       one module per family of models: `wan`, and its file format `native`
    toy             the embedded model: a small world, a small Wan trained on it, and what measures clips of it
    demo            the whole product on the embedded model
    errors          what can go wrong for a user

And the command line, `python -m setandseq_core`: `__main__` holds its options, `commands` its work, `models` which
model it works with, `console` what it shows meanwhile.

Importing the package imports none of these, so it costs nothing.
"""
