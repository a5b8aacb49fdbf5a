"""Users, teams, tokens and the lines of the audit log, to rows and back; the form is that of `rows`."""

from __future__ import annotations

from ..core.model import Quota, TokenScope, UserRole
from ..core.records import AuditRecord, TeamRecord, TokenRecord, UserRecord
from .documents import Doc, Row, stamp_in, stamp_or_none_in, stamp_out


def _quota(q: Quota) -> list[int]:
    return [q.running_jobs, q.queued_jobs, q.submissions_per_day, q.machines]


def user_out(r: UserRecord) -> Row:
    """A user's row."""
    doc: Doc = {
        "role": int(r.role),
        "team": r.team,
        "disabled": r.disabled,
        "quota": _quota(r.quota),
        "created_at": stamp_out(r.created_at),
    }
    return [r.name, doc]


def user_in(name: str, doc: Doc) -> UserRecord:
    """The user again."""
    return UserRecord(
        name=name,
        role=UserRole(doc["role"]),
        team=doc["team"],
        disabled=doc["disabled"],
        quota=Quota(*doc["quota"]),
        created_at=stamp_in(doc["created_at"]),
    )


def team_out(r: TeamRecord) -> Row:
    """A team's row."""
    return [r.name, {"quota": _quota(r.quota)}]


def team_in(name: str, doc: Doc) -> TeamRecord:
    """The team again."""
    return TeamRecord(name, Quota(*doc["quota"]))


def token_out(r: TokenRecord) -> Row:
    """A token's row; of its secret there is the digest only."""
    doc: Doc = {
        "user": r.user,
        "note": r.note,
        "scope": int(r.scope),
        "digest": r.digest,
        "created_at": stamp_out(r.created_at),
        "expires_utc_ns": r.expires_utc_ns,
    }
    for name in ("revoked_at", "last_used_at"):
        stamp = getattr(r, name)
        if stamp is not None:
            doc[name] = stamp_out(stamp)
    if r.forgotten:
        doc["forgotten"] = True
    return [r.token_id, doc]


def token_in(token_id: str, doc: Doc) -> TokenRecord:
    """The token again."""
    return TokenRecord(
        token_id=token_id,
        user=doc["user"],
        note=doc["note"],
        scope=TokenScope(doc["scope"]),
        digest=doc["digest"],
        created_at=stamp_in(doc["created_at"]),
        expires_utc_ns=doc["expires_utc_ns"],
        revoked_at=stamp_or_none_in(doc.get("revoked_at")),
        last_used_at=stamp_or_none_in(doc.get("last_used_at")),
        forgotten=doc.get("forgotten", False),
    )


def audit_out(r: AuditRecord) -> Row:
    """The row of a line of the audit log."""
    doc: Doc = {
        "at": stamp_out(r.at),
        "token_id": r.token_id,
        "peer": r.peer,
        "method": r.method,
        "subject": r.subject,
        "reason": r.reason,
    }
    return [r.line, r.who, r.job_id, int(r.allowed), doc]


def audit_in(line: int, who: str, job_id: int, allowed: int, doc: Doc) -> AuditRecord:
    """The line again."""
    return AuditRecord(
        line=line,
        at=stamp_in(doc["at"]),
        who=who,
        token_id=doc["token_id"],
        peer=doc["peer"],
        method=doc["method"],
        subject=doc["subject"],
        allowed=bool(allowed),
        reason=doc["reason"],
        job_id=job_id,
    )
