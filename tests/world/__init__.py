"""A small deterministic world in which both real cores live.

`world` holds true time, one seeded source of chance and the trace; `clock` the wrong clocks; `link` and `rpc`
the network; `manager_host` and `volunteer_host` the processes around `Machine` and `Volunteer`, with their
crashes; `keeper_model` (behind `keeper_socket`) the keeper in memory; `scripts` and `clients` what tasks do;
`users` who submits; `profiles` and `nemesis` what goes wrong; `truth` what really happened; `store` and
`invariants` what must hold. `run` puts it together.

A failing seed is played again with its whole trace by `python -m tests.world SEED`.
"""
