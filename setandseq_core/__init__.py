"""Set-and-Sequence: learn how something looks and how it moves from one clip (Abdal et al. 2025, arXiv 2502.14844).

The method, readable in one sitting, in this order:

    flow            rectified flow: the path between data and noise, its velocity, the loss
    lora            identity basis, coefficients and motion residual as PEFT layers; coefficient dropout
    train           the set stage and the sequence stage: two loops
    learn           a concept from clips: encode, train both stages, record how it was made
    sample          clips from a model: Euler steps with guidance
    concept         the result: three matrices per layer, the weight change they make (Eq. 6), and a base of two models
    backbone        the interface that a video model must offer
    config          settings of the method, with the paper's values; TOML
    prompts         static and motion prompt, two-part prompts; a prompt's tokens, masked and joined by learned ones
    fingerprint     how a concept recognises its base model
    errors          everything that can go wrong for a user, and text from files, made safe to show
    atomic          writing a file completely or not at all

The rooms around it:

    backbones/      model families through diffusers: what they share, and how each is loaded and run
    clips/          video files, clips with their prompts, and the encoded material of both stages
    training/       one training: its plan, its steps and saved state, prior clips, validation
    compose/        concepts on a model: strengths, sums, regions, and how the core applies them
    concept_file/   the concept file: strict reading and writing, its metadata, plain LoRA, thumbnail
    evaluate/       metrics of generated clips, and contact sheets to judge them by eye
    embedded/       the small model that ships with the pack, its world, and probes that measure its clips
    cli/            the command line, `python -m setandseq_core`

Imports run one way: the method never imports composing, evaluation, the embedded model or the command line
(tests/core/test_imports.py lists what is forbidden). Importing the package imports none of these, so it costs nothing.
"""
