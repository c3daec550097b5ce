"""Messages to the user: on standard output, or in the log where interactive logging is off."""

from __future__ import annotations

import logging
import sys

from kstyle_torch import config

LOGGER = logging.getLogger(__name__.partition(".")[0])


def say(message: str, end: str = "\n") -> None:
    """Prints a message, or logs it at the level INFO where interactive logging is off.

    Args:
        message: The text. Characters that the stream's encoding lacks are replaced: blocks of a bar by `=`.
        end: What follows it on the stream.
    """
    if not config.is_interactive_logging_enabled():
        LOGGER.info(message)
        return
    text = message + end
    try:
        print(text, end="", flush=True)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        text = text.replace("━", "=").encode(encoding, "backslashreplace").decode(encoding)
        print(text, end="", flush=True)
