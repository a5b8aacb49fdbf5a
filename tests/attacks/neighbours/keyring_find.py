"""Looks for keys that a task before left."""

import ctypes

from attacker import FACTS, attempt, got_it, note, syscall

KEYCTL, REQUEST_KEY = (250, 219), (249, 218)
SEARCH, READ, PERSISTENT = 10, 11, 22
RINGS = (-3, -4, -5)

for ring in RINGS:
    for left_on in RINGS:
        name = f"{FACTS['mark']}{left_on}".encode()
        for what, arguments in (
            ("search", (KEYCTL, SEARCH, ring, b"user", name, 0)),
            ("request_key", (REQUEST_KEY, b"user", name, None, ring)),
        ):
            key = attempt(f"{what} {ring}", syscall, *arguments)
            if key is not None:
                text = ctypes.create_string_buffer(64)
                attempt("read", syscall, KEYCTL, READ, key, text, ctypes.c_size_t(64))
                got_it(f"a key of {left_on} on {ring}: {text.value!r}")
attempt("persistent", syscall, KEYCTL, PERSISTENT, -1, -3)
keys = attempt("/proc/keys", lambda: open("/proc/keys").read()) or ""
if FACTS["mark"] in keys:
    got_it("a key left before is in /proc/keys")
note(keys)
