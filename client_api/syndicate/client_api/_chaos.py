"""``Chaos``: what a client does to its own job, in plain blocking calls."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from syndicate.client_api import _calls, _histories
from syndicate.client_api._calls import Call, Exchange, Whom, monotonic_now
from syndicate.client_api._calls import new_id as _new_id
from syndicate.client_api._error_table import chaos_error, read_failure
from syndicate.client_api._errors import (
    AttemptEnded,
    ChaosError,
    ClientFinished,
    DeadlineExceeded,
    HistoriesMissing,
    HistoryClosed,
    HistoryTooLarge,
    JobNotRunning,
    NotConfigured,
    Unavailable,
)
from syndicate.client_api._histories import Gathered, HandedOver, Steps
from syndicate.client_api._results import (
    Applied,
    Degraded,
    Disconnected,
    DiskFilled,
    Fault,
    Finished,
    Healed,
    Killed,
    MemberState,
    Outcome,
    Partitioned,
    Paused,
    Pong,
    Reconnected,
    Reset,
    Resumed,
    Revived,
    Shape,
    Signalled,
)
from syndicate.client_api._retry import RetryPolicy
from syndicate.client_api._units import Duration
from syndicate.client_api.history import History, HistoryError
from syndicate.v1 import chaos_pb2_grpc

if TYPE_CHECKING:
    from syndicate.client_api._judging import Wanted
    from syndicate.client_api.checkers import Budget, Verdict

T = TypeVar("T")
Held = TypeVar("Held", bound=Applied)

ENVIRONMENT_NAME = "SYNDICATE_CHAOS"
DEFAULT_TIMEOUT_S = 30.0
# Why nothing can be said of a job, rather than that the job failed.
UNJUDGED = (HistoriesMissing, HistoryClosed, HistoryTooLarge, HistoryError, OSError)

CHANNEL_OPTIONS = (
    # gRPC's own pause of up to two minutes between connection attempts would outlast every deadline here.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
    # A new channel must not inherit the back-off of an older one to the same address.
    ("grpc.use_local_subchannel_pool", 1),
)


def chaos_address(environ: Mapping[str, str]) -> str:
    """The address in SYNDICATE_CHAOS. Raises NotConfigured where there is none."""
    address = environ.get(ENVIRONMENT_NAME, "")
    if not address:
        raise NotConfigured(f"{ENVIRONMENT_NAME} is not set: only a client task of a job has it")
    return address


class Chaos:
    """Breaks and mends the members of the caller's own job.

    Most calls take one member (its address, or what ``members`` said of it) or a sequence of them. Several
    are checked before any of them is touched, and then told at the same moment; the call answers when the
    effect holds at all of them (``members`` of the answer has each). Where one fails the call raises, and the
    text says what was taken back at the others, or where it holds. An empty sequence raises ValueError.

    What lasts holds until its counterpart or ``heal`` takes it back, the ``lease`` runs out (a timedelta,
    seconds, or a text such as ``"90s"``; ValueError unless it is above 0), or the job ends. A member is as
    all that is in force on it says, together. ``with chaos.healing(chaos.disconnect(ip)):`` takes a fault
    back at the end of a block.

    A call answers when its effect holds. It has a deadline (``timeout`` in seconds, 30 unless given here or
    with the call) and is tried again under one request id while manager or volunteer are away, so that the
    effect happens once. Usable from several threads. Errors: see ``ChaosError``.
    """

    def __init__(
        self, address: str, timeout: float = DEFAULT_TIMEOUT_S, *, retry: RetryPolicy | None = None
    ) -> None:
        self._timeout = timeout
        self._retry = retry or RetryPolicy()
        self._boot_id = _calls.own_boot_id()
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._close = self._channel.close
        self._stub = chaos_pb2_grpc.ChaosControlStub(self._channel)

    @classmethod
    def from_env(cls, timeout: float = DEFAULT_TIMEOUT_S) -> Chaos:
        """Opens the socket that SYNDICATE_CHAOS names. Raises NotConfigured where it is not set."""
        return Chaos(chaos_address(os.environ), timeout)

    @classmethod
    def of_user(
        cls,
        channel: grpc.Channel,
        metadata: Sequence[tuple[str, str]],
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Chaos:
        """For a user's job, upon a channel that stays the caller's; see ``SchedulerClient.chaos``."""
        chaos = cls.__new__(cls)
        chaos._timeout, chaos._retry = timeout, RetryPolicy()
        chaos._boot_id = _calls.own_boot_id()
        chaos._metadata = tuple(metadata)
        chaos._channel, chaos._close = channel, lambda: None
        chaos._stub = chaos_pb2_grpc.ChaosControlStub(channel)
        return chaos

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connection back."""
        self._close()

    def kill(self, ip: Whom, *, timeout: float | None = None) -> Killed:
        """Ends every process of the task at ``ip``; a dead one is left as it is (``already``)."""
        return self._run(_calls.kill(_new_id(), ip), timeout)

    def revive(self, ip: Whom, with_disk: bool | None = None, *, timeout: float | None = None) -> Revived:
        """Starts the task at ``ip`` again; None keeps its disk, as True does.

        A live task is left alone (``already``), and without disk it raises TaskAlive.
        """
        return self._run(_calls.revive(_new_id(), ip, with_disk), timeout)

    def disconnect(
        self, ip: Whom, *, lease: Duration | None = None, timeout: float | None = None
    ) -> Disconnected:
        """Cuts ``ip`` from every master and slave of the job, in both directions, in silence."""
        return self._run(_calls.disconnect(_new_id(), ip, lease), timeout)

    def reconnect(self, ip: Whom, *, timeout: float | None = None) -> Reconnected:
        """Takes every disconnect and reset of ``ip`` back; what else cuts it stays."""
        return self._run(_calls.reconnect(_new_id(), ip), timeout)

    def reset(self, ip: Whom, *, lease: Duration | None = None, timeout: float | None = None) -> Reset:
        """As ``disconnect``, but who sends a TCP segment gets a reset; all else vanishes in silence."""
        return self._run(_calls.reset(_new_id(), ip, lease), timeout)

    def partition(
        self,
        groups: Sequence[Sequence[str | MemberState]] | None = None,
        *,
        shape: Shape | str | None = None,
        ip: str | MemberState | None = None,
        one_way: bool = False,
        seed: int = 0,
        lease: Duration | None = None,
        timeout: float | None = None,
    ) -> Partitioned:
        """Cuts groups of members from each other: two or more ``groups``, or a ``shape``.

        Shapes: ``halves``, ``random-halves``, ``majority-ring``, ``bridge``, ``isolate-one``. ``ip`` is the
        one of the last two; else, and for all that is drawn, ``seed`` draws: the same from the same members.
        ``one_way``: what a later group sends to an earlier one is lost, the other way it passes. Raises
        BadField where groups share a member, are fewer than two, or name nobody.
        """
        call = _calls.partition(_new_id(), groups, shape, ip, one_way, seed, lease)
        return self._run(call, timeout)

    def degrade(
        self,
        ip: Whom,
        *,
        peers: Sequence[str | MemberState] = (),
        loss: float | str = 0.0,
        rate: float | str | None = None,
        delay: Duration = 0.0,
        jitter: Duration = 0.0,
        duplicate: float | str = 0.0,
        corrupt: float | str = 0.0,
        reorder: float | str = 0.0,
        one_way: bool = False,
        lease: Duration | None = None,
        timeout: float | None = None,
    ) -> Degraded:
        """Makes the network of ``ip`` worse: each direction alike and by itself, or only what it sends.

        ``peers``: only what it exchanges with them; without, all that it exchanges with members, together.
        ``loss``, ``duplicate``, ``corrupt`` and ``reorder`` are percent of the packets; ``reorder`` needs a
        delay. ``rate`` is bits a second (``"1Mbit"``), ``delay`` and ``jitter`` are timedeltas, seconds or
        texts (``"50ms"``). Raises BadField for what is out of range, CannotDoIt for the machine.
        """
        how = _calls.degradation(
            loss=loss,
            rate=rate,
            delay=delay,
            jitter=jitter,
            duplicate=duplicate,
            corrupt=corrupt,
            reorder=reorder,
        )
        return self._run(_calls.degrade(_new_id(), ip, how, peers, one_way, lease), timeout)

    def pause(self, ip: Whom, *, lease: Duration | None = None, timeout: float | None = None) -> Paused:
        """Freezes every process of the task at ``ip``. Raises TaskDead; a kill ends it."""
        return self._run(_calls.pause(_new_id(), ip, lease), timeout)

    def resume(self, ip: Whom, *, timeout: float | None = None) -> Resumed:
        """Takes every pause of ``ip`` back."""
        return self._run(_calls.resume(_new_id(), ip), timeout)

    def disk_full(
        self, ip: Whom, *, lease: Duration | None = None, timeout: float | None = None
    ) -> DiskFilled:
        """Leaves no room on the disk of the task at ``ip``: what it deletes it may write again."""
        return self._run(_calls.disk_full(_new_id(), ip, lease), timeout)

    def signal(self, ip: Whom, signal: int | str, *, timeout: float | None = None) -> Signalled:
        """Sends a signal (``"QUIT"`` or a number) to the processes of the task at ``ip``, not to its make.

        Raises TaskDead, and BadField for KILL, STOP and CONT: use ``kill``, ``pause`` and ``resume``.
        """
        return self._run(_calls.signal(_new_id(), ip, signal), timeout)

    def heal(self, *fault_ids: int, timeout: float | None = None) -> Healed:
        """Takes back what lasts: everything in the job, or what the calls of these lines did.

        What is healed already is left as it is (``already``); the dead stay dead. Raises NoSuchFault.
        """
        return self._run(_calls.heal(_new_id(), fault_ids), timeout)

    @contextlib.contextmanager
    def healing(self, held: Held) -> Iterator[Held]:
        """Takes a fault back when the block ends, whatever happened in it; a kill by reviving.

        ``with chaos.healing(chaos.pause(ip, lease=60)):`` - the lease is for a client that is killed itself.
        """
        try:
            yield held
        finally:
            call: Call[Any] | None = _calls.undo(_new_id(), held)
            # Where the job is over, or this client's part in it, all is healed anyway.
            with contextlib.suppress(JobNotRunning, ClientFinished, AttemptEnded):
                if call is not None:
                    self._run(call, None)

    def faults(self, *, in_force: bool = False, timeout: float | None = None) -> tuple[Fault, ...]:
        """The job's ledger, or what of it is in force now; in the order of its lines."""
        found: list[Fault] = []
        token = ""
        while True:
            page, token = self._run(_calls.faults(in_force, token), timeout)
            found += page
            if not token:
                return tuple(found)

    def finish(
        self,
        outcome: Outcome | str | None = None,
        score: float | None = None,
        metrics: Mapping[str, float] | None = None,
        text: str = "",
        *,
        timeout: float | None = None,
    ) -> Finished:
        """Says that this client is done, and what it found; afterwards only ``members`` and ``ping`` work.

        ``outcome`` is ``"pass"``, ``"fail"``, ``"unknown"`` or None, which stands for a pass. ``score`` is in
        the client's own scale, ``metrics`` are named numbers. ``text`` past 64 KiB is cut, and says so.
        Raises ValueError for another outcome.
        """
        return self._run(_calls.finish(_new_id(), outcome, score, metrics, text), timeout)

    def hand_over(
        self,
        history: History | str | os.PathLike[str],
        final: bool = True,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> HandedOver:
        """Gives a history to the manager, which keeps it with the job: for ``gather``, and for the report.

        A History is measured against the manager's clock once more and closed; a file is sent as it is. With
        ``final`` this client hands nothing more over. It is called as its file unless a ``name`` is given
        (``[a-z0-9.-]``). Repeating it changes nothing. ``timeout`` is of each piece of 192 KiB. Raises
        HistoryClosed, HistoryTooLarge, and OSError where the file cannot be read.
        """
        path = self._take(_histories.measure(history, lambda: _calls.ping(self._boot_id)), timeout)
        return self._take(_histories.hand_over(path, name, final), timeout)

    def gather(
        self,
        wait_s: float = 60.0,
        *,
        folder: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> Gathered:
        """Waits until each other client that still runs has handed everything over, and fetches it all.

        Into ``folder``, or files that are removed when the answer is closed. Raises HistoriesMissing where
        that takes more than ``wait_s`` seconds, and OSError where there is no room.
        """
        steps = _histories.gather(wait_s, folder, self._timeout if timeout is None else timeout)
        return self._take(steps, timeout)

    def judge(
        self,
        checkers: Mapping[str, Wanted],
        history: History | str | os.PathLike[str] | None = None,
        *,
        wait_s: float = 60.0,
        budget: Budget | None = None,
        windows: Sequence[tuple[str, int, int | None]] | None = None,
        tested: bool = True,
        least_s: float = 1.0,
        kinds: Collection[str] | None = None,
        metrics: Mapping[str, float] | None = None,
        say: Callable[[str], None] = print,
        timeout: float | None = None,
    ) -> Verdict:
        """Gathers all histories, checks them together, and finishes with the verdict, which it gives.

        For one of the job's clients, by custom client-0; the others hand theirs over and finish.

        Args:
            checkers: what is asked, by name; what needs the windows of the faults is a function of them:
                ``{"linearizable": Linearizable(KeyValue()), "available": lambda w: AvailableAgain(5, w)}``.
            history: this client's own, handed over first.
            wait_s: for the other clients, in seconds.
            budget: of the check.
            windows: of faults under which the system must answer, on the manager's clock; without, those of
                the ledger.
            tested: whether a pass that says nothing is refused (``NotVacuous``, by name ``tested``).
            least_s: how long a fault has to hold for that.
            kinds: of operations that must have succeeded in each.
            metrics: for the result, beside the verdict's own: those of a nemesis, with its seed.
            say: is given the verdict's text, with how each client's clock stood to the manager's.

        The verdict is unknown where a history is missing or not whole, or they cannot be merged; its text
        says whose. Raises ChaosError where it cannot finish, ValueError for windows that cannot be.
        """
        # Only clients that judge load the checkers.
        from syndicate.client_api._judging import Question, judged, unknown

        question = Question(checkers, budget, windows, tested, least_s, kinds)
        try:
            if history is not None:
                self.hand_over(history, timeout=timeout)
            with self.gather(wait_s, timeout=timeout) as gathered:
                members, faults = self.members(timeout=timeout), self.faults(timeout=timeout)
                verdict = judged(gathered, members, faults, question)
        except UNJUDGED as error:
            verdict = unknown(f"the histories could not be gathered: {error}")
        told = verdict.finish_arguments()
        say(told["text"])
        self.finish(**told | {"metrics": {**(metrics or {}), **told["metrics"]}}, timeout=timeout)
        return verdict

    def members(self, *, timeout: float | None = None) -> tuple[MemberState, ...]:
        """The members of the job with their states: master, slaves, clients."""
        return self._run(_calls.members(), timeout)

    def ping(self, *, timeout: float | None = None) -> Pong:
        """Goes to the manager and back: how long that took, and how this clock stands to the manager's."""
        return self._run(_calls.ping(self._boot_id), timeout)

    def _take(self, steps: Steps[T], timeout: float | None) -> T:
        """Takes steps until their end."""
        try:
            call = next(steps)
            while True:
                try:
                    answer = self._run(call, timeout)
                except ChaosError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()

    def _run(self, call: Call[T], timeout: float | None) -> T:
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        tries = 0
        while True:
            tries += 1
            sent = monotonic_now()
            try:
                answer = self._invoke(
                    call.rpc, call.request, self._retry.try_timeout_s(time.monotonic(), deadline)
                )
            except (Unavailable, DeadlineExceeded):
                pause = self._retry.pause_s(tries, random.random())  # noqa: S311 - jitter, no secret
                if not self._retry.retries or time.monotonic() + pause >= deadline:
                    raise
                time.sleep(pause)
            else:
                return call.read(answer, Exchange(sent, monotonic_now()))

    def _invoke(self, rpc: str, request: Message, timeout: float) -> Any:
        """One try. Raises ChaosError, and SchedulerError for users."""
        try:
            return getattr(self._stub, rpc)(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise chaos_error(read_failure(error)) from None
