"""Lengths of time as people read them; light, so that the command line's help stays quick."""


def clock(seconds: float) -> str:
    """A length of time as "m:ss", or "h:mm:ss" from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
