"""Takes secrets out of text that leaves this machine: by how they look, and by what they are.

A net behind the first rule, which is that no file of secrets is read into such text at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

REMOVED = "[removed]"
_SHORTEST = 8
"""A shorter value is no secret, and would take half of the text with it."""

_SHAPES = (
    # A user's token keeps its id, which is no secret and says whose it is.
    (re.compile(r"\b(syn_[A-Za-z0-9-]+_)[A-Za-z0-9_-]{8,}"), rf"\1{REMOVED}"),
    # A join token, the same.
    (re.compile(r"\b([0-9a-f]{8}\.)[A-Za-z0-9_-]{40,}"), rf"\1{REMOVED}"),
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        REMOVED,
    ),
    (re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\1{REMOVED}"),
    (re.compile(r"(?i)(\b[a-z]+://[^\s/:@]+:)[^\s/@]+@"), rf"\1{REMOVED}@"),
)
_TELLING = re.compile(r"(?i)(token|secret|passw|key|credential)")
_KERNEL_WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
# What says how the machine is set up. Everything else may be of a boot loader, of iSCSI, or of a credential.
_KERNEL_SHOWN = re.compile(
    r"syndicate\.\w+|systemd\.(unit|unified_cgroup_hierarchy|legacy_systemd_cgroup_controller|log_level)"
    r"|cgroup\w*|psi|swapaccount|mem|hugepages\w*|transparent_hugepage|maxcpus|nr_cpus|isolcpus|nohz\w*|rcu\w*"
    r"|mitigations|clocksource|tsc|lsm|security|apparmor|selinux|audit|overlay\.\w+|loop\.\w+"
    r"|ipv6\.\w+|net\.ifnames|panic|console|rootfstype|user_namespace\.\w+"
)
_NO_SECRET = re.compile(r"(?i)(_file|_dir|_ttl_s|-file|-dir)$")


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """The text without what looks like a secret, and without these."""
    for secret in sorted({one for one in known if len(one) >= _SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, REMOVED)
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


def named_like_a_secret(name: str) -> bool:
    """Whether a setting of this name holds a secret, and not the name of a file that does."""
    return bool(_TELLING.search(name)) and not _NO_SECRET.search(name)


def settings_without_secrets(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings by name, also those within others."""
    return {
        name: REMOVED
        if named_like_a_secret(name) and isinstance(value, str)
        else settings_without_secrets(value)
        if isinstance(value, Mapping)
        else value
        for name, value in settings.items()
    }


def words_without_secrets(words: Iterable[str]) -> list[str]:
    """A command line: what follows or belongs to an option that is named like a secret."""
    shown: list[str] = []
    hide = False
    for word in words:
        option, equals, _ = word.partition("=")
        is_option = word.startswith("--")
        if hide and not is_option:
            shown.append(REMOVED)
        elif is_option and equals and named_like_a_secret(option):
            shown.append(f"{option}={REMOVED}")
        else:
            shown.append(word)
        hide = is_option and not equals and named_like_a_secret(option)
    return shown


def kernel_words_without_secrets(line: str) -> list[str]:
    """The kernel's command line: names alone of what is not known as harmless, no word of init's own."""
    shown: list[str] = []
    for word in _KERNEL_WORD.findall(line):
        name, equals, _ = word.partition("=")
        if word == "--":  # from here on it is init's
            return [*shown, word, REMOVED]
        shown.append(word if not equals or _KERNEL_SHOWN.fullmatch(name) else f"{name}={REMOVED}")
    return shown
