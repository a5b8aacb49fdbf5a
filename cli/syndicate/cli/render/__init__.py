"""What is shown, as pure functions of the manager's messages and a clock: no terminal, no connection."""
