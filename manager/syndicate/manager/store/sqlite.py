"""The SQLite engine: WAL, synchronous=FULL, one writer thread with group commit, one reader thread."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import itertools
import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from ..core.model import JobState
from ..core.records import AuditRecord, FaultRecord, JobRecord, Record, RunRecord, StoryRecord, TaskRecord
from ..core.show import picture
from ..core.views import JobView
from . import rows, schema
from .errors import CommitFailed, StateDirBusy, StoreBroken, StoreError
from .migrate import migrate
from .protocol import Viewer
from .removal import remove_job, trim_audit
from .writer import GroupWriter, Row, Saved

T = TypeVar("T")

# The write-ahead log is used over again from its beginning once it has so many pages.
_WAL_PAGES: Final = 2000
_PAGE_AND_FRAME: Final = 4096 + 24

_STATEMENTS: Final = 256  # that stay prepared: of each table's about ten lengths, all that occur
# Characters of the documents of one statement. SQLite keeps the values that a prepared one was given last.
_LONGEST_PART: Final = 1 << 20

# Rows are made by functions here, and have no circles.
_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


class SqliteStore:
    """A `Store` in one file of the state directory. Made by `open`."""

    def __init__(
        self,
        lock: int,
        writer: sa.Connection,
        reader: sa.Connection,
        cluster_id: str,
        epoch: int,
        max_waiting: int,
    ) -> None:
        self.cluster_id: str = cluster_id
        self.epoch: int = epoch
        self.submitted: int = 0
        self.durable: int = 0
        self._lock = lock
        self._writer = writer
        self._raw = cast(sqlite3.Connection, writer.connection.driver_connection)
        self._reader = reader
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._max_waiting = max_waiting
        self._waiting = 0
        self._group_writer: GroupWriter | None = None
        self._failed = False
        # Told of each commit, in the writer's thread: seconds and records. To be set before `start`.
        self.took: Callable[[float, int], None] | None = None

    @classmethod
    def open(cls, state_dir: Path, max_waiting: int = 50_000) -> SqliteStore:
        """Lock the directory, migrate, and take the next epoch durably. Blocks.

        The store is `full` while `max_waiting` records wait. Raises StateDirBusy, StoreTooNew and
        StoreBroken.
        """
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(state_dir / "lock")
        opened: list[sa.Connection] = []
        try:
            _keep_private(state_dir / "manager.db")
            engine = _engine(state_dir / "manager.db")
            writer = engine.connect()
            opened.append(writer)
            with writer.begin():
                migrate(writer)
                for table in (schema.node, schema.token):
                    writer.execute(sa.delete(table).where(sa.text("json_extract(doc, '$.forgotten')")))
                cluster_id, epoch = _next_epoch(writer)
            reader = engine.connect()
            opened.append(reader)
            _lengthen(state_dir / "manager.db-wal")
        except BaseException as error:
            for connection in opened:
                connection.close()
            os.close(lock)
            if isinstance(error, sa.exc.DBAPIError):
                raise StoreBroken(f"{state_dir / 'manager.db'} cannot be used: {error.orig}") from error
            raise
        return cls(lock, writer, reader, cluster_id, epoch, max_waiting)

    @property
    def full(self) -> bool:
        """True while `max_waiting` records or more wait to be written."""
        return self._waiting >= self._max_waiting

    # ---- writing ----------------------------------------------------------------------------------------

    def start(self, on_durable: Callable[[int], None], on_failure: Callable[[BaseException], None]) -> None:
        """Begin to take records; see `Store.start`."""
        loop = asyncio.get_running_loop()

        def on_loop(ticket: int, records: int) -> None:
            self.durable = ticket
            self._waiting -= records
            on_durable(ticket)

        def failed_on_loop(error: BaseException) -> None:
            self._failed = True
            failure = CommitFailed(f"the store cannot make records durable: {error}")
            failure.__cause__ = error
            on_failure(failure)

        self._group_writer = GroupWriter(
            self._commit,
            lambda ticket, records: _tell(loop, on_loop, ticket, records),
            lambda error: _tell(loop, failed_on_loop, error),
            self.took,
        )

    def submit(self, records: Sequence[Record], patience_s: float = 0.0) -> int:
        """Queue records; see `Store.submit`."""
        assert self._group_writer is not None, "start() comes first"  # noqa: S101 - a caller's bug
        # Here and not in the writer's thread, which would have to wait for the interpreter's lock before it
        # begins, and whoever it wakes would wait for it again.
        saved = [_saved(record) for record in records]
        self.submitted += 1
        self._waiting += len(saved)
        self._group_writer.put(self.submitted, saved, patience_s)
        return self.submitted

    def _commit(self, group: list[Saved]) -> None:
        # The last save of a key wins, so one row per key is written. Tables do not refer to each other:
        # their order within a transaction is nobody's business.
        newest: dict[str, dict[Row, Row]] = {}
        for table, key, values in group:
            newest.setdefault(table, {})[key] = values
        statements = [
            (schema.upsert(table, len(part)), [*itertools.chain.from_iterable(part)])
            for table, saved in newest.items()
            for part in _parts(list(saved.values()))
        ]
        # Past SQLAlchemy, which takes longer for one statement than SQLite for ten rows; and each statement
        # less is a wait for the interpreter less: one alone is a transaction by itself.
        if len(statements) == 1:
            self._raw.execute(*statements[0])
            return
        self._raw.execute("BEGIN IMMEDIATE")
        for statement, parameters in statements:
            self._raw.execute(statement, parameters)
        self._raw.execute("COMMIT")

    async def close(self) -> None:
        """Make durable what was submitted, and let go of the state directory."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        if (
            self._group_writer is not None
            and not self._failed
            and not self._group_writer.finish(timeout_s=30.0)
        ):
            raise CommitFailed("the store's writer did not end within 30 s")
        self._reads.shutdown()
        self._reader.close()
        self._writer.close()
        os.close(self._lock)

    # ---- reading ----------------------------------------------------------------------------------------

    def restore(self, keep_ended: int) -> Iterator[Record]:
        """What the machine needs to go on; see `Store.restore`."""
        job = schema.job
        live = sa.select(job.c.job_id).where(job.c.state <= schema.LAST_LIVE)
        ended = (
            sa.select(job.c.job_id)
            .where(job.c.state > schema.LAST_LIVE)
            .order_by(job.c.job_id.desc())
            .limit(keep_ended)
        )
        with self._reader.begin():
            for table in (schema.node, schema.user, schema.team, schema.token):
                yield from self._records(sa.select(table))
            audit = schema.audit.c
            lines = sa.select(schema.audit).limit(1)
            yield from self._records(lines.order_by(audit.line.desc()))
            about_jobs = lines.where(sa.text("job_id != 0"), audit.allowed == 1)
            yield from self._records(about_jobs.order_by(audit.job_id.desc()))
            for table in (job, schema.task, schema.run, schema.fault, schema.plan, schema.story):
                query = sa.select(table).where(table.c.job_id.in_(live)).order_by(*table.primary_key)
                yield from self._records(query)
            for table in (job, schema.task):
                *columns, doc = table.c
                in_part = sa.select(*columns, sa.func.json_remove(doc, "$.result"))
                yield from self._records(
                    in_part.where(table.c.job_id.in_(ended)).order_by(*table.primary_key)
                )

    def requests(self, limit: int) -> list[tuple[str, int, str]]:
        """The requests of the newest ended jobs; see `Store.requests`."""
        job = schema.job
        query = (
            sa.select(job.c.request_id, job.c.job_id, job.c.owner)
            .where(job.c.state > schema.LAST_LIVE)
            .order_by(job.c.job_id.desc())
            .limit(limit)
        )
        owners: dict[str, str] = {}
        with self._reader.begin():
            found = [(r, i, owners.setdefault(owner, owner)) for r, i, owner in self._reader.execute(query)]
        return found[::-1]

    async def load_job(self, job_id: int) -> JobView | None:
        """One job whole; see `Store.load_job`."""
        return await self._read(functools.partial(self._load_job, job_id))

    async def list_jobs(
        self,
        before_id: int | None,
        limit: int,
        owner: str,
        states: Sequence[JobState],
        viewer: Viewer | None = None,
    ) -> list[JobRecord]:
        """Jobs, newest first; see `Store.list_jobs`."""
        wanted = [state for state in JobState if not states or state in states]
        if viewer is None or viewer.name == owner:
            work = functools.partial(self._list_jobs, before_id, limit, owner, wanted)
        else:
            work = functools.partial(self._list_seen, before_id, limit, owner, wanted, viewer)
        return [r for r in await self._read(work) if isinstance(r, JobRecord)]

    def _list_seen(
        self, before_id: int | None, limit: int, owner: str, states: Sequence[JobState], viewer: Viewer
    ) -> list[Record]:
        """Of those that a viewer sees: its own, its team's, those published; each off the end of an index."""
        job = schema.job
        lists = [] if owner else [self._list_jobs(before_id, limit, viewer.name, states)]
        parts: list[sa.ColumnElement[bool]] = [sa.and_(sa.text("published = 1"))]
        if viewer.team:
            parts.append(sa.and_(sa.text("team != ''"), job.c.team == viewer.team))
        for part in parts:
            query = sa.select(job).where(part, job.c.state.in_([int(state) for state in states]))
            if owner:
                query = query.where(job.c.owner == owner)
            if before_id is not None:
                query = query.where(job.c.job_id < before_id)
            lists.append(list(self._records(query.order_by(job.c.job_id.desc()).limit(limit))))
        found = {r.job_id: r for records in lists for r in records if isinstance(r, JobRecord)}
        return [found[job_id] for job_id in sorted(found, reverse=True)[:limit]]

    async def list_audit(
        self, before: int | None, limit: int, who: str, job_id: int, denied: bool
    ) -> list[AuditRecord]:
        """Lines of the audit log; see `Store.list_audit`."""
        audit = schema.audit
        query = sa.select(audit).order_by(audit.c.line.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.line < before)
        if who:
            query = query.where(audit.c.who == who)
        if job_id:
            query = query.where(sa.text("job_id != 0"), audit.c.job_id == job_id)
        if denied:
            query = query.where(sa.text("allowed = 0"))
        found = await self._read(lambda: list(self._records(query)))
        return [r for r in found if isinstance(r, AuditRecord)]

    def _list_jobs(
        self, before_id: int | None, limit: int, owner: str, states: Sequence[JobState]
    ) -> list[Record]:
        job = schema.job
        below = [] if before_id is None else [job.c.job_id < before_id]
        if not owner and len(states) == len(JobState):
            ids = sa.select(job.c.job_id).where(*below).order_by(job.c.job_id.desc()).limit(limit)
        else:
            # Each part is read off the end of an index, however many jobs there are. That a state is on one
            # side of the border is implied, but only said so does it let SQLite use the partial indexes.
            parts = []
            for state in states:
                side = f"state {'<=' if state <= schema.LAST_LIVE else '>'} {schema.LAST_LIVE}"
                part = sa.select(job.c.job_id).where(sa.text(side), job.c.state == int(state), *below)
                if owner:
                    part = part.where(job.c.owner == owner)
                newest = part.order_by(job.c.job_id.desc()).limit(limit).subquery()
                parts.append(sa.select(newest.c.job_id))
            united = sa.union_all(*parts).subquery()
            ids = sa.select(united.c.job_id).order_by(united.c.job_id.desc()).limit(limit)
        return list(self._records(sa.select(job).where(job.c.job_id.in_(ids)).order_by(job.c.job_id.desc())))

    # ---- removing ---------------------------------------------------------------------------------------

    async def old_jobs(self, keep: int, limit: int) -> list[int]:
        """The oldest ended jobs beyond those to keep; see `Store.old_jobs`."""
        return await self._read(functools.partial(self._old_jobs, keep, limit))

    def _old_jobs(self, keep: int, limit: int) -> list[int]:
        ended = sa.text(f"state > {schema.LAST_LIVE}")
        number = self._reader.execute(
            sa.select(sa.func.count()).select_from(schema.job).where(ended)
        ).scalar_one()
        if number <= keep:
            return []
        oldest = sa.select(schema.job.c.job_id).where(ended).order_by(schema.job.c.job_id)
        return list(self._reader.execute(oldest.limit(min(number - keep, limit))).scalars())

    async def remove_job(self, job_id: int) -> None:
        """Remove a job's rows; see `Store.remove_job`."""
        await asyncio.get_running_loop().run_in_executor(None, self._remove_job, job_id)

    def _remove_job(self, job_id: int) -> None:
        try:
            with contextlib.closing(self._writer.engine.raw_connection()) as connection:
                remove_job(cast(sqlite3.Connection, connection.driver_connection), job_id)
        except sqlite3.Error as error:
            raise StoreError(f"job {job_id} cannot be removed: {error}") from error

    async def trim_audit(self, keep: int) -> int:
        """Remove old lines of the audit log; see `Store.trim_audit`."""
        return await asyncio.get_running_loop().run_in_executor(None, self._trim_audit, keep)

    def _trim_audit(self, keep: int) -> int:
        try:
            with contextlib.closing(self._writer.engine.raw_connection()) as connection:
                return trim_audit(cast(sqlite3.Connection, connection.driver_connection), keep)
        except sqlite3.Error as error:
            raise StoreError(f"the audit log cannot be trimmed: {error}") from error

    async def _read(self, work: Callable[[], T]) -> T:
        def in_thread() -> T:
            with self._reader.begin():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._reads, in_thread)

    def _load_job(self, job_id: int) -> JobView | None:
        found: dict[type[Any], list[Any]] = {kind: [] for kind in rows.TABLE_OF}
        for table in (schema.job, schema.task, schema.run, schema.fault, schema.story):
            for record in self._records(sa.select(table).where(table.c.job_id == job_id)):
                found[type(record)].append(record)
        if not found[JobRecord]:
            return None
        return picture(
            found[JobRecord][0], found[TaskRecord], found[RunRecord], found[FaultRecord], found[StoryRecord]
        )

    def _records(self, query: sa.Select[Any]) -> Iterator[Record]:
        table = query.get_final_froms()[0].name  # type: ignore[attr-defined]  # every query here is of one table
        for *columns, doc in self._reader.execute(query):
            yield rows.from_row(table, [*columns, json.loads(doc)])


def _saved(record: Record) -> Saved:
    table, (*columns, last) = rows.to_row(record)
    text = last if table == "meta" else _encode(last)  # there it is a word, elsewhere the document
    return table, tuple(columns[: rows.KEY_LENGTH[table]]), (*columns, text)


def _parts(saved: list[Row]) -> Iterator[list[Row]]:
    """Rows for one statement each, of so few lengths that the statements of all of them stay prepared."""
    for first in range(0, len(saved), schema.MOST_ROWS):
        yield from _short(saved[first : first + schema.MOST_ROWS])


def _short(part: list[Row]) -> Iterator[list[Row]]:
    if len(part) == 1:
        yield part
    elif sum(map(_length, part)) > _LONGEST_PART:
        middle = len(part) // 2
        yield from _short(part[:middle])
        yield from _short(part[middle:])
    else:
        # Up to a power of two; a row that is saved again is no other. The shortest, since one may be long.
        yield part + [min(part, key=_length)] * ((1 << (len(part) - 1).bit_length()) - len(part))


def _length(row: Row) -> int:
    return len(row[-1])


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        # The loop was closed before its store: nobody is left to be told, and nothing was acknowledged.
        return


def _lock(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise StateDirBusy(
            f"another manager (pid {holder}) runs on {path.parent}: stop it, or give another --state-dir"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _keep_private(database: Path) -> None:
    """Its owner's alone, also in a folder that others may read: it has who did what. SQLite's files beside
    it get its mode."""
    os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for path in (database, database.with_name(f"{database.name}-wal")):
        if path.exists():
            path.chmod(0o600)


def _engine(path: Path) -> sa.Engine:
    # Each connection is used by one thread at a time, but made by another than the one that uses it.
    arguments = {"check_same_thread": False, "cached_statements": _STATEMENTS}
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=NullPool, connect_args=arguments)

    @sa.event.listens_for(engine, "connect")
    def connect(dbapi: Any, _record: Any) -> None:
        # The driver's own transactions begin late and never for DDL: take them over.
        dbapi.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "busy_timeout=5000",
            "foreign_keys=ON",
            f"wal_autocheckpoint={_WAL_PAGES}",
        ):
            dbapi.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _lengthen(wal: Path) -> None:
    """Write zeros behind the write-ahead log, up to the size that it is used over again at.

    A commit that makes the file longer has the file system commit its own journal too: 0.20 ms against 0.10
    ms for one that writes over what is there (ext4). SQLite reads the log up to the first frame whose
    checksum is wrong, so zeros are nothing to it; it locks the database and the index of the log, but not
    the log. Raises StoreError where there is no room for it.
    """
    size = _WAL_PAGES * _PAGE_AND_FRAME
    try:
        with wal.open("r+b", buffering=0) as file:
            at = file.seek(0, os.SEEK_END)
            while at < size:
                at += file.write(bytes(size - at))
            os.fsync(file.fileno())
    except OSError as error:
        needed = f"{size / 1e6:.0f} MB"
        raise StoreError(f"{wal} cannot be made as long as it gets ({needed}): {error.strerror}") from error


def _next_epoch(connection: sa.Connection) -> tuple[str, int]:
    found = {row.name: row.value for row in connection.execute(sa.select(schema.meta))}
    cluster_id = found.get("cluster_id") or f"c-{secrets.token_hex(6)}"
    epoch = int(found.get("epoch", "0")) + 1
    connection.execute(sa.delete(schema.meta))
    connection.execute(
        sa.insert(schema.meta),
        [{"name": "cluster_id", "value": cluster_id}, {"name": "epoch", "value": str(epoch)}],
    )
    return cluster_id, epoch
