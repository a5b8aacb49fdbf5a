"""What a sync server decides, without a socket or a clock.

`wire` reads and writes the bytes, `barriers` is the machine of the barriers, `sessions` that of waiters
which come over UDP. Each has its transitions in one table (`transitions`); `effects` and `events` are what
goes in and out.
"""
