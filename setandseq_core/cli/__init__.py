"""The command line, `python -m setandseq_core`.

    main        runs a command and prints its errors
    options     options that several commands share, and the kinds of their values
    train, train_many, plan, prior, sample, compose, evaluate, inspect, export, clean, demo
                one file per command: a function with its options above it
    references  turns videos and prompts into reference clips for training
    model       the model that a command works with
    files       checks the files that commands read and write
    console     progress, messages, file names to paste
    signals     Ctrl-C, SIGTERM and SIGHUP

Help appears at once because this room imports only click and other light modules. A command imports the heavy rooms
(PyTorch, diffusers) inside its function, after its options are checked.
"""
