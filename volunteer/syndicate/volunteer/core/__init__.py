"""The volunteer's pure core: events in, effects out; no clock, no socket, no randomness of its own.

`Volunteer` is the machine; `model`, `events` and `effects` are its vocabulary, `transitions` holds the table
of a slot's life, `exits` tells what the end of a task means.
"""

from .machine import Volunteer
from .model import Config

__all__ = ["Config", "Volunteer"]
