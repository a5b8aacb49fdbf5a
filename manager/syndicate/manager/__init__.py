"""The manager: multiplexes jobs onto volunteers."""
