"""The volunteer: offers the slots of one machine to a manager, and its keeper, which holds the host."""
