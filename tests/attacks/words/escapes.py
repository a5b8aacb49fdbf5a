"""Everything that terminals do something at, in output."""

import os

CODES = {
    "colour": "\x1b[31;5msynred",
    "title": "\x1b]0;syntitle\x07",
    "clipboard": "\x1b]52;c;c3lu\x1b\\",
    "link": "\x1b]8;;http://127.0.0.1/\x1b\\synlink\x1b]8;;\x1b\\",
    "erase": "syngone\x1b[2K\x1b[1A\x1b[2J\x1b[H",
    "answer": "\x1b[6n\x1b[c\x1bP$q q\x1b\\\x05",
    "reset": "\x1bc\x1b[?1049h\x1b[!p",
    "c1": "\x9b31msyn\x9d0;syn\x9c\x90syn\x9c\x85",
    "back": "syn\b\b\b\x7f\r\x0b\x0c\x0e\x0f",
    "null": "syn\0\0syn",
    "bidi": "syn\u202egnp.exe\u202c\u2066\u2069\u200f\u061c",
    "unseen": "syn\u200b\u2060\ufeff\U000e0041\u3164\xad",
    "heap": "syn" + "\u0301" * 200,
    "lines": "syn\u2028syn\u2029syn",
}
for name, code in CODES.items():
    os.write(1, f"{name} {code}\n".encode())
    os.write(2, f"{name} {code}\n".encode())
os.write(1, b"bytes \xff\xfe\x9b31m\xc3\n" + b"x" * 5000 + b"\x1b[31;5m\n" + b"no end \x1b]0;syn")
