"""Users, teams and tokens: what may be changed by whom, and what a token opens.

Staff look after students; staff and admins are looked after by admins. Nobody gives away more than he has: a
token never allows more than the one that asked for it, and one for the same user never lives longer.

A token is `syn_<id>_<secret>`. Only the SHA-256 of the secret is kept. Passwords need a slow hash, since
people choose few of them; a secret of 256 random bits cannot be guessed at any speed, and this one is checked
at each call.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from . import masks
from .access import Origin, role_too_low
from .effects import AccessChanged, PutTeamReply, PutUsersReply, TokenReply
from .errors import BadRequest, Conflict, Exhausted, NotAllowed, NotFound, Refused
from .model import Quota, Stamp, UserRole
from .names import is_name
from .records import TeamRecord, TokenRecord, UserRecord
from .user_events import CreateToken, FirstToken, PutTeam, PutUsers, RevokeToken, TokensUsed, UserWish
from .world import World

FIRST_ADMIN: Final = "admin"
FIRST_TOKEN: Final = "admin"  # noqa: S105 - its id, which is no secret
MOST_USERS_A_CALL: Final = 10_000
LONGEST_NOTE: Final = 200
# Tokens of one user: those that can be used, and those shown that cannot be used any more.
MOST_TOKENS: Final = 50
MOST_ENDED_TOKENS: Final = 50
LONGEST_TTL_S: Final = 3.2e8  # ten years
LARGEST_QUOTA: Final = 1_000_000
# When a token was last used is told to within so long.
USED_WITHIN_NS: Final = 120 * 1_000_000_000
_TOKEN_ID_DIGITS: Final = 16
_NAMED_IN_AUDIT: Final = 20


# ---- tokens, as text ------------------------------------------------------------------------------------


def token_text(token_id: str, secret: str) -> str:
    """What goes after `Bearer `."""
    return f"syn_{token_id}_{secret}"


def parts_of(text: str) -> tuple[str, str]:
    """Token id and secret; empty where the text is no token."""
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    return (token_id, secret) if prefix == "syn" and token_id and secret else ("", "")


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def opens(token: TokenRecord, secret: str) -> bool:
    """Whether the secret is the token's; takes as long for each wrong one."""
    return hmac.compare_digest(digest_of(secret), token.digest)


def has_expired(token: TokenRecord, now: Stamp) -> bool:
    """Whether a token's time is over."""
    return 0 < token.expires_utc_ns <= now.utc_ns


def token_id_of(origin: Origin, request_id: str) -> str:
    """The id of the token that a request makes: the same at each repeat, also after a restart."""
    text = f"{origin.caller.name}/{request_id}"
    return hashlib.sha256(text.encode()).hexdigest()[:_TOKEN_ID_DIGITS]


# ---- users and teams ------------------------------------------------------------------------------------


def put_users(world: World, event: PutUsers, audit: Callable[[str], None]) -> PutUsersReply:
    """Adds or changes users: all of them, or none and raises as `PutUsers` says."""
    wishes = event.users
    if not wishes:
        raise BadRequest("BAD_FIELD", "users: name at least one", field="users")
    if len(wishes) > MOST_USERS_A_CALL:
        text = f"users: {len(wishes):,} are named; at most {MOST_USERS_A_CALL:,} at a time"
        raise BadRequest("BAD_FIELD", text, field="users")
    masks.check(event.mask, masks.USER_FIELDS)
    seen: dict[str, int] = {}
    records: list[UserRecord] = []
    for index, wish in enumerate(wishes):
        if not is_name(wish.name):
            raise _bad_user(index, "name", f"{wish.name[:64]!r} does not match [a-z0-9-]{{1,63}}")
        records.append(_record(world, wish, index, event.mask))
        _check_record(records[-1], index)
        if wish.name in seen:
            raise _bad_user(index, "name", f"{wish.name} is named twice, first at index {seen[wish.name]}")
        seen[wish.name] = index
    for record in records:
        _check_right(world, event.origin, record)
        if event.only_new and record.name in world.users:
            raise Conflict("USER_EXISTS", f"there is a user {record.name} already", name=record.name)
    _check_admins(world, records)
    befores = [world.users.get(record.name) for record in records]
    added = changed = 0
    for before, record in zip(befores, records, strict=True):
        added += before is None
        changed += before is not None and before != record
        if record.team and record.team not in world.teams:
            world.save_team(TeamRecord(record.team, Quota()))
        if before != record:
            world.save_user(record)
    world.emit(AccessChanged())
    world.plan_all = True
    audit(_what_became(befores, records))
    return PutUsersReply(added, changed)


def _record(world: World, wish: UserWish, index: int, mask: masks.Mask | None) -> UserRecord:
    """The user as it will be: what the mask leaves out is as it is now, not as somebody read it before."""
    before = world.users.get(wish.name)
    if before is None or mask is None:
        mask = masks.USER_FIELDS
    if before is None:
        before = UserRecord(wish.name, UserRole.STUDENT, "", False, Quota(), world.now)
    role = wish.role if "role" in mask else before.role
    if role is None:
        raise _bad_user(index, "role", f"{wish.name} is to be added, and has none")
    return replace(
        before,
        role=role,
        team=wish.team if "team" in mask else before.team,
        disabled=wish.disabled if "disabled" in mask else before.disabled,
        quota=masks.quota_over(before.quota, wish.quota, mask),
    )


def _check_record(user: UserRecord, index: int) -> None:
    if user.team and not is_name(user.team):
        raise _bad_user(index, "team", f"{user.team[:64]!r} does not match [a-z0-9-]{{1,63}}")
    _check_quota(user.quota, f"users[{index}].quota", index=str(index))


def _check_quota(quota: Quota, field: str, **metadata: str) -> None:
    for name in ("running_jobs", "queued_jobs", "submissions_per_day", "machines"):
        value = getattr(quota, name)
        if not -1 <= value <= LARGEST_QUOTA:
            text = f"{field}.{name} is {value}: -1 is no bound, 0 the default, {LARGEST_QUOTA:,} the most"
            raise BadRequest("BAD_FIELD", text, field=f"{field}.{name}", **metadata)


def _check_right(world: World, origin: Origin, user: UserRecord) -> None:
    """Raises NotAllowed unless the caller may make this user so."""
    before = world.users.get(user.name)
    highest = max(user.role, UserRole.STUDENT if before is None else before.role)
    if highest > UserRole.STUDENT and origin.caller.role < UserRole.ADMIN:
        raise role_too_low(UserRole.ADMIN, f"to make or change {highest.name.lower()} ({user.name})")


def _check_admins(world: World, records: Sequence[UserRecord]) -> None:
    admins = {name for name, user in world.users.items() if _is_admin(user)}
    for user in records:
        (admins.add if _is_admin(user) else admins.discard)(user.name)
    if not admins:
        raise Refused("LAST_ADMIN", "nobody would be left who is an admin; make another one first")


def _is_admin(user: UserRecord) -> bool:
    return user.role is UserRole.ADMIN and not user.disabled


def _bad_user(index: int, field: str, text: str) -> BadRequest:
    where = f"users[{index}].{field}"
    return BadRequest("BAD_FIELD", f"{where}: {text}", field=where, index=str(index))


def _what_became(befores: Sequence[UserRecord | None], records: Sequence[UserRecord]) -> str:
    """What a call made of users, for the audit log: in one line, of which a long roster hides nothing.

    Whoever was given another role, the highest first, or was disabled or let in again, is named first.
    """

    def weight(change: tuple[UserRecord | None, UserRecord]) -> tuple[int, bool]:
        before, record = change
        was = (UserRole.STUDENT, False) if before is None else (before.role, before.disabled)
        moved = 0 if record.role is was[0] else -max(record.role, was[0])
        return moved, record.disabled == was[1]

    changes = sorted(zip(befores, records, strict=True), key=weight)
    named = [
        f"{record.name} ({words})" if (words := _difference(before, record)) else record.name
        for before, record in changes[:_NAMED_IN_AUDIT]
    ]
    more = len(records) - len(named)
    moved = sum(weight(change)[0] < 0 for change in changes[_NAMED_IN_AUDIT:])
    rest = f" and {more:,} more" if more else ""
    rest += f", {moved:,} of them in another role" if moved else ""
    return f"{'user' if len(records) == 1 else 'users'} {', '.join(named)}{rest}"


def _difference(before: UserRecord | None, record: UserRecord) -> str:
    # A new one is told by what it is beside a student that may call.
    old = before or replace(record, role=UserRole.STUDENT, disabled=False)
    words = ["new"] if before is None else []
    if record.role is not old.role:
        words.append(record.role.name.lower())
    if record.disabled != old.disabled:
        words.append("disabled" if record.disabled else "let in again")
    if record.team != old.team:
        words.append(f"team {record.team}" if record.team else "no team")
    if record.quota != old.quota:
        words.append("quota")
    return ", ".join(words)


def put_team(world: World, event: PutTeam) -> PutTeamReply:
    """Adds a team, or changes its quota. Raises BadRequest."""
    if not is_name(event.name):
        text = f"team.name is {event.name[:64]!r}, which does not match [a-z0-9-]{{1,63}}"
        raise BadRequest("BAD_FIELD", text, field="team.name")
    masks.check(event.mask, masks.TEAM_FIELDS)
    before = world.teams.get(event.name)
    mask = masks.TEAM_FIELDS if before is None or event.mask is None else event.mask
    bounds = masks.quota_over(Quota() if before is None else before.quota, event.quota, mask)
    _check_quota(bounds, "team.quota")
    world.save_team(TeamRecord(event.name, bounds))
    world.plan_all = True
    return PutTeamReply(before is None)


# ---- tokens ---------------------------------------------------------------------------------------------


def create_token(world: World, event: CreateToken, audit: Callable[[str], None]) -> TokenReply:
    """Makes a token; a repeat of the request is told of the same one. Raises as `CreateToken` says."""
    caller = event.origin.caller
    name = event.user or caller.name
    token_id = token_id_of(event.origin, event.request_id)
    user = _user_for(world, event.origin, name)
    known = world.tokens.get(token_id)
    if known is not None:
        if (known.user, known.note) != (name, event.note):
            raise BadRequest("BAD_FIELD", "request_id was used for another call", field="request_id")
        return TokenReply(known, again=True)
    if len(event.note) > LONGEST_NOTE or not event.note.isprintable():
        text = f"note has at most {LONGEST_NOTE} characters, all of them printable"
        raise BadRequest("BAD_FIELD", text, field="note")
    scope = caller.scope if event.scope is None else event.scope
    if scope > caller.scope:
        needs = scope.name.lower()
        raise NotAllowed("OUT_OF_SCOPE", "a token makes none that allows more than itself", needs=needs)
    expires = _expiry(world, event, own=name == caller.name)
    _make_room(world, user)
    token = TokenRecord(token_id, name, event.note, scope, event.digest, world.now, expires)
    world.save_token(token)
    audit(f"token {token_id} of {name}")
    return TokenReply(token)


def revoke_token(world: World, event: RevokeToken, audit: Callable[[str], None]) -> TokenReply:
    """Ends a token; one that has ended stays as it is. Raises as `RevokeToken` says."""
    token = world.tokens.get(event.token_id)
    caller = event.origin.caller
    if token is None or (token.user != caller.name and not caller.is_staff):
        error = NotFound("NO_SUCH_TOKEN", f"there is no token {event.token_id[:64]!r}")
        error.denied = token is not None
        raise error
    _user_for(world, event.origin, token.user)
    if token.revoked_at is None:
        token = replace(token, revoked_at=world.now)
        world.save_token(token)
        world.emit(AccessChanged())
        audit(f"token {token.token_id} of {token.user}")
    return TokenReply(token)


def used(world: World, event: TokensUsed) -> None:
    """Writes down when tokens were used, where that is much later than what was written last."""
    for token_id, at in event.used:
        token = world.tokens.get(token_id)
        if token is None:
            continue
        last = token.last_used_at
        if last is None or at.utc_ns - last.utc_ns >= USED_WITHIN_NS:
            world.save_token(replace(token, last_used_at=at))


def first_token(world: World, event: FirstToken) -> None:
    """The token file of the first admin says what its token is, and makes that user where there is none."""
    token = event.token
    if token.user not in world.users:
        world.save_user(UserRecord(token.user, UserRole.ADMIN, "", False, Quota(), world.now))
    known = world.tokens.get(token.token_id)
    if known is None or known.digest != token.digest:
        world.save_token(token)
        world.emit(AccessChanged())


def _user_for(world: World, origin: Origin, name: str) -> UserRecord:
    """The user whose tokens the caller may make and end. Raises NotAllowed, NotFound."""
    user = world.users.get(name)
    if name != origin.caller.name:
        if not origin.caller.is_staff:
            raise role_too_low(UserRole.STAFF, "the tokens of others:")
        if user is not None and user.role > UserRole.STUDENT and origin.caller.role < UserRole.ADMIN:
            raise role_too_low(UserRole.ADMIN, f"the tokens of {user.role.name.lower()}:")
    if user is None:
        raise NotFound("NO_SUCH_USER", f"there is no user {name[:64]!r}")
    return user


def _expiry(world: World, event: CreateToken, own: bool) -> int:
    """When the token ends, in UTC nanoseconds."""
    wish = event.expires_in_s
    if not math.isfinite(wish) or not 0 <= wish <= LONGEST_TTL_S:
        text = f"expires_in_s is above 0 and at most {LONGEST_TTL_S:,.0f}, or 0 for the manager's default"
        raise BadRequest("BAD_FIELD", text, field="expires_in_s")
    expires = world.now.utc_ns + int((wish or world.config.token_ttl_s) * 1e9)
    asking = world.tokens.get(event.origin.caller.token_id)
    if own and asking is not None and asking.expires_utc_ns:
        return min(expires, asking.expires_utc_ns)
    return expires


def _make_room(world: World, user: UserRecord) -> None:
    """Raises Exhausted where a user has many tokens; forgets the oldest of those that have ended."""
    mine = [token for token in world.tokens.values() if token.user == user.name]
    ended = [t for t in mine if t.revoked_at is not None or has_expired(t, world.now)]
    if len(mine) - len(ended) >= MOST_TOKENS:
        raise Exhausted(
            "TOO_MANY_TOKENS", f"{user.name} has {MOST_TOKENS} tokens; revoke some", most=str(MOST_TOKENS)
        )
    # One that a file holds would be taken for a new one at the next start.
    ended = [t for t in ended if t.token_id != FIRST_TOKEN]
    for token in sorted(ended, key=lambda t: t.created_at.utc_ns)[: len(ended) - MOST_ENDED_TOKENS + 1]:
        if len(ended) >= MOST_ENDED_TOKENS:
            world.save_token(replace(token, forgotten=True))
