"""The command line, `python -m setandseq_core`.

    main        runs a command and tells its errors
    options     options that several commands share, and the values that they take
    train, prior, sample, compose, evaluate, inspect, export, demo
                a file for each command: one function, with its options above it
    references  training: from videos and prompts to reference clips
    model       the model that a command works with
    outputs     checks a result's path before the work begins
    console     progress, messages, file names to paste
    signals     Ctrl-C, SIGTERM and SIGHUP

Help appears at once because this room imports only click and other light modules. A command imports the heavy rooms
(PyTorch, diffusers) inside its function, once its options are right.
"""
