"""``login``, ``logout``, ``whoami``, and the commands about contexts."""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from syndicate.cli import cluster_files, exit_codes
from syndicate.cli.context import (
    Given,
    Target,
    check_address,
    cluster_at,
    context_path,
    read_context,
    read_token,
    resolve,
)
from syndicate.cli.contexts import LOCAL, ClusterContext, Contexts, check_name, name_for
from syndicate.cli.failure import CliError, explain
from syndicate.cli.render.identity import expires_soon, expiry_text, token_text, who_lines, who_text
from syndicate.cli.render.job_lines import advice, labelled, labelled_text
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.plain import as_plain, document
from syndicate.cli.render.tables import Fit, table
from syndicate.cli.terminal import Terminal
from syndicate.client_api import (
    NotAuthenticated,
    NotTrusted,
    SchedulerClient,
    Unreachable,
    ca_fingerprint,
    fetch_ca,
)

FROM_STDIN = "-"
_MOST_LETTERS = 4096
_FINGERPRINT = re.compile(r"(?:sha256:)?[0-9a-f]{2}(?::?[0-9a-f]{2}){31}", re.IGNORECASE | re.ASCII)
_WHOSE_FINGERPRINT = "The manager's machine tells it:  syndicatectl certs list"


def login(given: Given, terminal: Terminal, manager: str, fingerprint: str, as_json: bool) -> int:
    """Tries a token at a manager; where it is good, keeps it in a context that commands use from now on."""
    store = Contexts(os.environ)
    name, context = _context_for(store, given, manager)
    pem, context = _trusted(given, fingerprint, context)
    token, token_from = _token_for(given, terminal, context.manager)
    target = Target(
        context.manager,
        token,
        token_from=token_from,
        ca_file=pem or context.ca_file,
        insecure=context.insecure,
    )
    try:
        with target.connect(terminal) as client:
            who, now = client.whoami(), client.cluster().now
    except (NotAuthenticated, Unreachable) as error:
        raise _not_logged_in(target.explain(error)) from None
    except NotTrusted as error:
        raise _not_logged_in(explain(error)) from None
    if pem:
        context = replace(context, ca_file=store.put_ca(name, pem), ca_fingerprint=ca_fingerprint(pem))
    token_file = store.put_token(name, token)
    store.put(name, replace(context, token_file=token_file, user=who.user.name))
    store.use(name)
    if as_json:
        terminal.say(document({"context": name, "manager": context.manager, **as_plain(who)}))
        return exit_codes.OK
    user = f"{neutralise_text(who.user.name)}, {who_text(who.user)}"
    terminal.say(labelled_text("logged in", f"{user}, at {context.manager}", terminal.room))
    terminal.say(labelled_text("token", token_text(who.token, now), terminal.room))
    terminal.say(labelled_text("context", f"{name}: commands use it from now on", terminal.room))
    _tell_of_environment(terminal)
    if expires_soon(who.token, now):
        terminal.note(f"(the token expires {expiry_text(who.token, now)}: ask for another one in time)")
    return exit_codes.OK


def _tell_of_environment(terminal: Terminal) -> None:
    """What is set comes before a context; who forgot it would wonder."""
    for name in ("CONTEXT", "MANAGER", "TOKEN", "TOKEN_FILE"):
        if os.environ.get(f"SYNDICATE_{name}"):
            terminal.note(f"(SYNDICATE_{name} is set, and comes before it)")


def logout(given: Given, terminal: Terminal, revoke: bool, as_json: bool) -> int:
    """Removes the token of a context, and with ``revoke`` ends it at the manager as well."""
    store = Contexts(os.environ)
    name = given.context or os.environ.get("SYNDICATE_CONTEXT") or store.current()
    if name == LOCAL:
        raise CliError(
            f"the token of the context {LOCAL} is the cluster's own",
            "It goes with the cluster:  syndicatectl down",
            code=exit_codes.USAGE,
        )
    if not name:
        raise CliError(
            "no context is in use", "Name one:  --context NAME     Which?  syndicatectl context list",
            code=exit_codes.NOT_FOUND,
        )  # fmt: skip
    context = store.need(name)
    had = bool(context.token_file)
    if revoke and had:
        target = resolve(Given(context=name), os.environ)
        try:
            with target.connect(terminal) as client:
                client.revoke_token(client.whoami().token.token_id)
        except (NotAuthenticated, Unreachable) as error:
            raise target.explain(error) from None
    store.remove_token(name)
    store.put(name, replace(context, token_file="", user=""))
    if as_json:
        terminal.say(document({"context": name, "had_token": had, "revoked": revoke and had}))
        return exit_codes.OK
    ended = "revoked and removed" if revoke else "removed here; the manager still knows it (--revoke ends it)"
    terminal.say(
        labelled_text(
            "context", f"{name}: its token is {ended}" if had else f"{name} has no token", terminal.room
        )
    )
    return exit_codes.OK


def whoami(client: SchedulerClient, terminal: Terminal, target: Target, as_json: bool) -> int:
    """Who the caller is, and what is left of its quota."""
    who = client.whoami()
    if as_json:
        terminal.say(document({"manager": target.manager, "context": target.context, **as_plain(who)}))
        return exit_codes.OK
    now = client.cluster().now
    where = f"{target.manager}, of {target.manager_from}"
    terminal.say(who_lines(who, where, now, terminal.room))
    if expires_soon(who.token, now):
        terminal.note(f"(the token expires {expiry_text(who.token, now)}: ask for another one in time)")
    return exit_codes.OK


def list_contexts(given: Given, terminal: Terminal, as_json: bool) -> int:
    """All contexts, with the one that commands use."""
    store = Contexts(os.environ)
    found = _all(store, os.environ)
    used = _in_use(given, store, found)
    if as_json:
        rows = [{"name": name, "current": name == used, **_plain(each)} for name, each in found.items()]
        terminal.say(document({"contexts": rows}))
    elif not found:
        terminal.say("no contexts")
        terminal.say(advice("Make one:  syndicatectl login MANAGER", terminal.room))
    else:
        cells = [
            (
                "*" if name == used else "",
                name,
                each.manager,
                each.user or "-",
                "yes" if each.token_file else "no",
            )
            for name, each in found.items()
        ]
        fit = Fit(terminal.room, terminal.glyphs.more, elastic=("NAME", "MANAGER", "USER"))
        terminal.say(table(("", "NAME", "MANAGER", "USER", "TOKEN"), cells, fit))
    return exit_codes.OK


def use_context(terminal: Terminal, name: str, as_json: bool) -> int:
    """Makes commands use a context from now on; ``local`` is what `up` left."""
    store = Contexts(os.environ)
    if name != LOCAL:
        store.need(name)
    store.use(name)
    found = _all(store, os.environ).get(name)
    if as_json:
        terminal.say(document({"name": name, "manager": found.manager if found else ""}))
        return exit_codes.OK
    where = found.manager if found else "no cluster is up on this machine"
    terminal.say(labelled_text("context", f"{name}: commands use it from now on ({where})", terminal.room))
    _tell_of_environment(terminal)
    return exit_codes.OK


def show_context(given: Given, terminal: Terminal, name: str, as_json: bool) -> int:
    """One context; without a name, what the next command would use and where that stands."""
    if not name:
        return _show_target(given, terminal, as_json)
    store = Contexts(os.environ)
    found = _all(store, os.environ).get(name) or store.need(name)
    if as_json:
        used = name == _in_use(given, store, _all(store, os.environ))
        terminal.say(document({"name": name, "current": used, **_plain(found)}))
        return exit_codes.OK
    rows = (
        ("context", name),
        ("manager", found.manager),
        ("user", found.user),
        ("token", found.token_file or "none"),
        ("authority", "clear text, no certificate" if found.insecure else found.ca_file),
        ("", found.ca_fingerprint),
    )
    terminal.say([row for label, text in rows if text for row in labelled_text(label, text, terminal.room)])
    return exit_codes.OK


def delete_context(terminal: Terminal, name: str, as_json: bool) -> int:
    """Removes a context with its token."""
    if name == LOCAL:
        raise CliError(
            f"the context {LOCAL} is what `syndicatectl up` left",
            "It goes with the cluster:  syndicatectl down",
            code=exit_codes.USAGE,
        )
    store = Contexts(os.environ)
    if check_name(name) not in store.names():
        store.need(name)
    was_used = store.current() == name
    store.delete(name)
    if as_json:
        terminal.say(document({"name": name, "was_current": was_used}))
        return exit_codes.OK
    rest = "; no context is in use now" if was_used else ""
    terminal.say(labelled("context", f"{name} is removed with its token{rest}"))
    return exit_codes.OK


def _context_for(store: Contexts, given: Given, manager: str) -> tuple[str, ClusterContext]:
    """The context to log in to: the named one, the manager's, or the one in use."""
    named = given.context or ""
    if named == LOCAL:
        raise CliError(
            f"{LOCAL} is the name of the cluster that `syndicatectl up` starts",
            "Name it otherwise:  --context NAME",
            code=exit_codes.USAGE,
        )
    address = manager or given.manager or ""
    if not address and not named:
        named = os.environ.get("SYNDICATE_CONTEXT", "") or store.current()
        address = "" if named else os.environ.get("SYNDICATE_MANAGER", "")
    if not (address or named):
        raise CliError("no manager is named", "Name it:  syndicatectl login HOST:PORT", code=exit_codes.USAGE)
    if not address:
        return named, store.need(named)
    check_address(address)
    name = named or name_for(address)
    there = store.get(name)
    if there is not None and there.manager != address:
        raise CliError(
            f"the context {name} is for {there.manager}",
            f"Name another one:  --context NAME     Or first:  syndicatectl context delete {name}",
            code=exit_codes.USAGE,
        )
    return check_name(name), there or ClusterContext(address)


def _trusted(given: Given, fingerprint: str, context: ClusterContext) -> tuple[str, ClusterContext]:
    """The authority to keep, as PEM, and the context; where none is named, what is known stays."""
    named = given.ca or os.environ.get("SYNDICATE_CA") or ""
    if fingerprint:
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise CliError(
                f"--fingerprint: {fingerprint!r} is no SHA-256 fingerprint, which has 64 hexadecimal digits",
                _WHOSE_FINGERPRINT,
                code=exit_codes.USAGE,
            )
        try:
            return fetch_ca(context.manager, fingerprint), replace(context, insecure=False)
        except NotTrusted as error:
            raise CliError(str(error), _WHOSE_FINGERPRINT, code=exit_codes.NOT_ALLOWED) from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            away = Target(context.manager, "").explain(Unreachable(context.manager, why, 0.0))
            told = CliError(f"no manager at {context.manager} ({why})", *away.lines, code=away.code)
            raise _not_logged_in(told) from None
    if named:
        ca_fingerprint(named)  # raises NotTrusted for what is none
        return Path(named).read_text(), replace(context, insecure=False)
    if given.insecure or os.environ.get("SYNDICATE_INSECURE") == "1":
        return "", replace(context, ca_file="", ca_fingerprint="", insecure=True)
    if not context.ca_file:
        left = read_context(context_path(os.environ))
        known = cluster_at(context.manager, None, left)
        if left is not None and known is not None:  # on the same machine; `down` will take it away
            ca = cluster_files.authority(known.ca_file, left.directory)
            if not isinstance(ca, bytes):
                ca = Path(ca).read_bytes() if ca else b""
            return ca.decode(errors="replace"), replace(context, insecure=known.insecure)
    return "", context


def _token_for(given: Given, terminal: Terminal, manager: str) -> tuple[str, str]:
    """The token to log in with, and where it is from: an option's file, standard input, or who sits there."""
    if given.token is not None:
        return given.token.strip(), "--token"
    if given.token_file not in (None, FROM_STDIN):
        return _checked(read_token(str(given.token_file))), f"--token-file {given.token_file}"
    if given.token_file is None and sys.stdin.isatty():
        terminal.note(f"The token for {manager} is not shown while it is typed or pasted.")
        try:
            return _checked(getpass.getpass("Token: ", stream=terminal.err)), "that was typed"
        except EOFError:
            return _checked(""), ""
        except KeyboardInterrupt:
            terminal.note("")  # ends the line of the question
            raise
    return _checked(sys.stdin.readline(_MOST_LETTERS)), "standard input"


def _checked(text: str) -> str:
    token = text.strip()
    if not token:
        raise CliError(
            "no token was given",
            "Type it, or:  syndicatectl login MANAGER --token-file FILE",
            code=exit_codes.USAGE,
        )
    return token


def _not_logged_in(error: CliError) -> CliError:
    return CliError(error.message, *error.lines, "Nothing was kept.", code=error.code)


def _all(store: Contexts, environ: Mapping[str, str]) -> dict[str, ClusterContext]:
    """All contexts by name, `local` last where a cluster is up."""
    found = {name: store.need(name) for name in store.names()}
    local = read_context(context_path(environ))
    if local is not None:
        found[LOCAL] = local.as_cluster()
    return found


def _in_use(given: Given, store: Contexts, found: Mapping[str, ClusterContext]) -> str:
    used = given.context or os.environ.get("SYNDICATE_CONTEXT") or store.current()
    return used or (LOCAL if LOCAL in found else "")


def _show_target(given: Given, terminal: Terminal, as_json: bool) -> int:
    target = resolve(given, os.environ)
    if as_json:
        terminal.say(
            document(
                {
                    "context": target.context,
                    "manager": target.manager,
                    "manager_from": target.manager_from,
                    "token_from": target.token_from,
                    "ca_file": target.ca_file,
                    "insecure": target.insecure,
                }
            )
        )
        return exit_codes.OK
    terminal.say(labelled_text("manager", f"{target.manager}, of {target.manager_from}", terminal.room))
    token = f"of {target.token_from}" if target.token else "none"
    terminal.say(labelled_text("token", token, terminal.room))
    ca = "clear text, no certificate" if target.insecure else target.ca_file or "those of this machine"
    terminal.say(labelled_text("authority", ca, terminal.room))
    return exit_codes.OK


def _plain(context: ClusterContext) -> dict[str, object]:
    return {
        "manager": context.manager,
        "user": context.user,
        "token_file": context.token_file,
        "ca_file": context.ca_file,
        "ca_fingerprint": context.ca_fingerprint,
        "insecure": context.insecure,
    }
