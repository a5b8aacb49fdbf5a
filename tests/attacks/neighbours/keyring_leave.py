"""Leaves a key on every keyring that outlives a task, for whoever comes next."""

import ctypes

from attacker import FACTS, attempt, note, syscall

ADD_KEY, KEYCTL = (248, 217), (250, 219)
SET_PERMISSIONS, JOIN, PERSISTENT, TIMEOUT = 5, 1, 22, 15
SESSION, USER, USER_SESSION = -3, -4, -5
ALL, GONE_S = 0x3F3F_3F3F, 20
SECRET = b"left by a task"

rings = [SESSION, USER, USER_SESSION]
persistent = attempt("persistent", syscall, KEYCTL, PERSISTENT, -1, SESSION)
rings += [] if persistent is None else [persistent]
for ring in rings:
    name = f"{FACTS['mark']}{ring}".encode()
    size = ctypes.c_size_t(len(SECRET))
    key = attempt(f"add to {ring}", syscall, ADD_KEY, b"user", name, SECRET, size, ring)
    if key is not None:
        note(f"key {key} is on {ring}")
        attempt("permissions", syscall, KEYCTL, SET_PERMISSIONS, key, ALL)
        attempt("timeout", syscall, KEYCTL, TIMEOUT, key, GONE_S)
