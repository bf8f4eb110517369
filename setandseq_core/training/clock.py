"""Durations as people read them. The module imports nothing, so that the command line's help stays quick."""


def clock(seconds: float) -> str:
    """A duration as "m:ss", or "h:mm:ss" from one hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
