"""What is shown, exactly: neutralised bytes, lanes, numbers, tables, lines of output."""

from __future__ import annotations

import pytest
from syndicate.cli.render.follow import FollowView
from syndicate.cli.render.lanes import ASCII_GLYPHS, draw_lanes
from syndicate.cli.render.log_lines import MAX_LINE_BYTES, LineCutter
from syndicate.cli.render.neutralise import neutralise, neutralise_lines, neutralise_text
from syndicate.cli.render.palette import Palette
from syndicate.cli.render.plain import as_plain, document
from syndicate.cli.render.quantities import age_text, bytes_text, duration_text, figure_text, seconds_between
from syndicate.cli.render.show import Page, show_job, story_lines
from syndicate.cli.render.tables import table
from syndicate.cli.render.timeline import in_order, timeline
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.fake_scheduler import ended_job, fault, log, queued_job, running_job, stamp, task


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain \xc3\xa4 \xe2\x82\xac text", "plain ä € text"),
        (b"a\tb", "a\tb"),
        (b"\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        (b"\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        (b"\x00\x08\x0b\x7f", r"\x00\x08\x0b\x7f"),
        ("\u009b31m".encode(), r"\u009b31m"),
        (b"\x9b31m", r"\x9b31m"),
        (b"\xff\xfe half \xe2\x82", r"\xff\xfe half \xe2\x82"),
        (b"\xed\xa0\x80", r"\xed\xa0\x80"),
        ("a\u202eb\u2066c\u2069".encode(), r"a\u202eb\u2066c\u2069"),
        ("a\u2028b\ufeff".encode(), r"a\u2028b\ufeff"),
        ("\U000e0041".encode(), r"\U000e0041"),
        ("pay\u200bpal\u2060 \u00ad\u3164".encode(), r"pay\u200bpal\u2060 \u00ad\u3164"),
        (("e" + "\u0301" * 10 + "e\u0301").encode(), "e" + "\u0301" * 8 + r"\u0301\u0301" + "e\u0301"),
        (b"progress\rover", r"progress\x0dover"),
        (b"dos line\r", "dos line"),
        (b"[bold]not markup[/bold] :smile:", "[bold]not markup[/bold] :smile:"),
    ],
)
def test_bytes_of_a_job_cannot_steer_a_terminal(data: bytes, shown: str) -> None:
    """Controls, overrides of direction and bytes that are no UTF-8 are shown as escapes, no more."""
    assert neutralise(data) == shown


def test_every_byte_comes_out_printable() -> None:
    """No single byte is let through unless it is printable or a tab; nor is a control beyond ASCII."""
    for code in range(256):
        assert all(letter.isprintable() or letter == "\t" for letter in neutralise(bytes([code])))
    controls = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F))]
    assert not any(control in neutralise_text("".join(controls)).replace("\t", "") for control in controls)


def test_text_of_several_lines_stays_so() -> None:
    """Only newlines break a text for people."""
    assert neutralise_lines("one\r\ntwo\x1b\nthree\x0bfour") == ["one", r"two\x1b", r"three\x0bfour"]


def test_lanes_of_a_job_that_was_broken() -> None:
    """A kill, a revival, a cut and a finish stand in their columns, with notes behind."""
    line = timeline(ended_job(), stamp(99))
    assert line is not None
    assert draw_lanes(line, 100) == [
        "            0 s            5 s             10 s           15 s",
        "master      ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━",
        "slave-0     ━━━━━━━━━━━━━━━╳     ┏━━━━━━━━━━━━━━━━━━━━━━━━━━   "
        "killed 5.10, revived 7.00 (disk kept)",
        "slave-1     ━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌━━━━━━━━━━━━━━━━━━━━━━━   cut 3.02–8.20",
        "client-0    ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━▮   finished: pass",
    ]


@pytest.mark.parametrize("width", [40, 80, 81, 100, 120, 200])
def test_lanes_fit_the_terminal(width: int) -> None:
    """No line is wider than the terminal (or than 80, which is the least that is drawn for)."""
    job = ended_job()
    for number in range(40):
        job.faults.append(fault(10 + number, common.FAULT_KIND_KILL, "slave-1", 1 + number / 5))
    line = timeline(job, stamp(99))
    assert line is not None
    assert max(map(len, draw_lanes(line, width))) <= max(80, width)


def test_many_faults_are_counted() -> None:
    """Where there is no room for every fault's time, the note says how many there were."""
    job = ended_job()
    for number in range(40):
        job.faults.append(fault(10 + number, common.FAULT_KIND_KILL, "slave-1", 1 + number / 5))
    line = timeline(job, stamp(99))
    assert line is not None
    assert "killed 40 times, cut 1 time" in "\n".join(draw_lanes(line, 80))


def test_lanes_without_unicode() -> None:
    """An output that cannot carry box drawing gets plain letters."""
    line = timeline(ended_job(), stamp(99))
    assert line is not None
    drawn = "\n".join(draw_lanes(line, 80, ASCII_GLYPHS))
    assert drawn.isascii()
    assert "X" in drawn
    assert "[" in drawn


def test_a_cut_shorter_than_a_column_is_seen() -> None:
    """A fault is never lost to rounding."""
    job = running_job()
    job.ended_at.CopyFrom(stamp(3600))
    job.faults.append(fault(1, common.FAULT_KIND_DISCONNECT, "slave-0", 100.0))
    job.faults.append(fault(2, common.FAULT_KIND_RECONNECT, "slave-0", 100.1))
    line = timeline(job, stamp(3600))
    assert line is not None
    assert draw_lanes(line, 80)[2].count("╌") == 1


def test_a_fault_that_failed_is_not_drawn() -> None:
    """Only what held is on the time line."""
    job = running_job()
    job.faults.append(fault(1, common.FAULT_KIND_KILL, "slave-0", 1.0, error="no"))
    line = timeline(job, stamp(5))
    assert line is not None
    assert "╳" not in "".join(draw_lanes(line, 80))


@pytest.mark.parametrize("seconds", [0.004, 0.3, 1, 9.9, 61, 599, 3601, 90000, 900000])
def test_the_axis_has_room_for_its_labels(seconds: float) -> None:
    """Labels never touch, from milliseconds to days."""
    job = running_job()
    line = timeline(job, stamp(seconds))
    assert line is not None
    axis = draw_lanes(line, 80)[0]
    assert axis.split("  ")[0] == ""
    assert len([label for label in axis.split("  ") if label.strip()]) >= 2


def test_members_stand_in_their_order() -> None:
    """Master, slaves, clients, by number and not by letters."""
    names = ["client-0", "master", "slave-0", "slave-1", "slave-10", "slave-2"]
    ordered = [one.ref.task for one in in_order([task(name, 0) for name in names])]
    assert ordered == ["master", "slave-0", "slave-1", "slave-2", "slave-10", "client-0"]


def test_show_of_a_job_without_slots_has_no_lanes() -> None:
    """A queued job has a headline and its queue, nothing to draw."""
    lines = show_job(queued_job(), stamp(1), Page())
    assert lines[0].startswith("job 12  raft-kv  alice  QUEUED")
    assert not any("━" in line for line in lines)


def test_show_tells_what_each_task_may_use() -> None:
    """One line, with exact bounds and only those that there are; none of a manager that tells nothing."""
    job = queued_job()
    assert not any(line.startswith("limits") for line in show_job(job, stamp(1), Page()))
    job.spec.limits.CopyFrom(
        common.Limits(
            memory_bytes=(1 << 30) + 1,
            cpu_millis=1000,
            pids=1,
            disk_bytes=256 << 20,
            disk_inodes=100_000,
            open_files=4096,
            file_bytes=3 << 29,
            log_head_bytes=8 << 20,
            log_tail_bytes=1 << 20,
        )
    )
    [line] = [line for line in show_job(job, stamp(1), Page()) if line.startswith("limits")]
    assert line == (
        "limits     of each task: memory 1,073,741,825 B, 1 processor, 1 process, disk 256 MiB, "
        "100,000 inodes, 4,096 open files, a file 1.5 GiB, log 8 MiB and the last 1 MiB"
    )


def test_story_is_in_order_and_harmless() -> None:
    """Story lines and faults are merged by time; markup and escapes in them are text."""
    job = ended_job()
    job.story.append(
        scheduler.StoryLine(at=stamp(6), task="slave-0", event="task.exited", text="\x1b[2J[red]x", attempt=1)
    )
    lines = story_lines(job)
    assert [line.split()[0] for line in lines] == sorted((line.split()[0] for line in lines), key=float)
    assert any(r"\x1b[2J[red]x" in line for line in lines)


def test_the_middle_of_a_very_long_story_is_left_out() -> None:
    """Beginning and end are there, and how much is not."""
    job = ended_job()
    usual = len(story_lines(job))
    job.story.extend(
        scheduler.StoryLine(at=stamp(6 + i / 1e4), task="slave-0", event="x", text=f"n{i}", attempt=1)
        for i in range(5000)
    )
    lines = story_lines(job)
    assert len(lines) == 1001
    assert lines[500] == f"  ... {usual + 4000:,} lines are left out here; --json has all"
    assert lines[0] == story_lines(ended_job())[0]
    assert float(lines[-1].split()[0]) > 7


def test_story_tells_each_thing_once() -> None:
    """A fault's own effect is not told as an event too, and the end's detail stands on one line."""
    job = ended_job()
    job.detail = "client-0 passed: all is well"
    for at, who, event, text in (
        (0.0, "slave-0", "task.started", "runs on node-a at 10.77.0.12"),
        (5.1, "slave-0", "task.killed", "killed by client-0 (4 processes)"),
        (7.0, "slave-0", "task.started", "runs on node-a at 10.77.0.12 again, generation 2"),
        (9.0, "slave-1", "task.killed", "killed by client-0 (1 process)"),
        (15.3, "", "job.stopping", f"SUCCEEDED: {job.detail}"),
        (15.4, "", "job.ended", f"SUCCEEDED after 15.4 s: {job.detail}"),
    ):
        job.story.append(scheduler.StoryLine(at=stamp(at), task=who, event=event, text=text, attempt=1))
    lines = story_lines(job)
    assert [line.split("slave-0")[1].split()[0] for line in lines if "   slave-0 " in line] == [
        "runs", "killed", "revived,",
    ]  # fmt: skip
    assert any("killed by client-0 (1 process)" in line for line in lines), "no fault stands for this one"
    assert lines[-2].endswith("SUCCEEDED: client-0 passed: all is well")
    assert lines[-1].endswith("SUCCEEDED after 15.4 s")


def test_an_end_that_was_told_late_stands_where_it_happened() -> None:
    """A volunteer that was away tells afterwards; what it tells of goes before what happened since."""
    job = ended_job()
    job.faults[1].CopyFrom(fault(2, common.FAULT_KIND_KILL, "master", 5.10, processes=4))
    for at, event, text in ((0.02, "task.started", "runs on node-b"), (9.0, "task.exited", "exited 1")):
        job.story.append(scheduler.StoryLine(at=stamp(at), task="slave-1", event=event, text=text, attempt=1))
    job.tasks[2].runs[0].ended_at.CopyFrom(stamp(4.0))
    rows = [line.split()[0] for line in story_lines(job) if "slave-1 " in line and "cut" not in line]
    assert rows == ["0.020", "4.000", "8.200"]


def test_no_time_is_below_zero_by_a_rounding() -> None:
    """What happened a moment before the start stands at 0, not at -0."""
    job = ended_job()
    job.story.append(scheduler.StoryLine(at=stamp(-0.0001), task="master", event="x", text="y", attempt=1))
    assert any(line.split()[:3] == ["0.000", "s", "master"] for line in story_lines(job))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0009, "0.9 ms"), (0.019, "19 ms"), (0.25, "250 ms"), (15.4, "15.4 s"), (59.99, "1 min"),
        (250, "4 min 10 s"), (7500, "2 h 5 min"), (3600 * 28, "1 d 4 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    """Durations have the unit that suits them."""
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3780.0, "3780"),
        (-12.0, "-12"),
        (9007199254740991.0, "9007199254740991"),
        (0.97, "0.97"),
        (0.0003214890021, "0.0003215"),
        (0.0000012344, "0.000001234"),
        (3.14159265, "3.142"),
        (1234.5678, "1234.6"),
        (1e20, "1e+20"),
        (1e-12, "1e-12"),
        (0.0, "0"),
        (float("inf"), "inf"),
    ],
)
def test_figures_of_clients(value: float, text: str) -> None:
    """A seed with its digits and nothing between them; of others as many as say enough, and no more."""
    assert figure_text(value) == text


def test_sizes_and_ages() -> None:
    """Sizes are decimal, ages short."""
    assert [bytes_text(count) for count in (812, 14_200, 3_100_000)] == ["812 B", "14.2 KB", "3.1 MB"]
    assert [age_text(seconds) for seconds in (5, 130, 7300, 200_000)] == ["5s", "2m", "2h", "2d"]


def test_stamps_of_two_boots_are_compared_by_the_time_of_day() -> None:
    """Monotonic clocks of two boots have nothing to do with each other."""
    assert seconds_between(stamp(0), stamp(2)) == 2.0
    before = common.Stamp(boot_id="a", monotonic_ns=9_000_000_000, utc_ns=1_000_000_000)
    after = common.Stamp(boot_id="b", monotonic_ns=1, utc_ns=3_000_000_000)
    assert seconds_between(before, after) == 2.0


def test_table_is_aligned() -> None:
    """Columns start where their headers do."""
    assert table(("ID", "NAME"), [("1", "x"), ("200", "y")]) == ["ID    NAME", "1     x", "200   y"]


def test_colour_is_only_added() -> None:
    """With colour the text is the same between the codes."""
    assert Palette(enabled=True).bad("FAILED") == "\x1b[31mFAILED\x1b[0m"
    assert Palette().bad("FAILED") == "FAILED"


def test_messages_as_plain_values() -> None:
    """Numbers stay numbers, enums become words, what is unset is null, what is not finite is text."""
    plain = as_plain(ended_job())
    assert plain["state"] == "succeeded"
    assert plain["reason"] == "client_passed"
    assert plain["faults"][0]["applied_at_manager"]["monotonic_ns"] == 1_003_020_000_000
    assert plain["tasks"][0]["result"] is None
    assert plain["tasks"][3]["role"] == "client"
    assert as_plain(common.Result(metrics={"x": float("nan")}))["metrics"] == {"x": "nan"}
    assert document({"text": "\x1b\u202e"}).isascii()


def test_lines_are_cut_by_task_and_generation() -> None:
    """Pieces of two tasks do not mix in a line; a line may come in pieces."""
    cutter = LineCutter()
    seen = []
    for piece in (
        log("master", 0, b"ab", 1),
        log("slave-0", 0, b"x\ny", 1),
        log("master", 2, b"c\n", 2),
        log("slave-0", 0, b"z\n", 3, generation=2),
    ):
        seen += [(line.task, line.text) for line in cutter.feed(piece)]
    seen += [(line.task, line.text) for line in cutter.rest()]
    assert seen == [("slave-0", "x"), ("master", "abc"), ("slave-0", "z"), ("slave-0", "y")]


def test_a_line_without_end_is_bounded() -> None:
    """Output with no newline is shown in parts instead of being held."""
    cutter = LineCutter()
    lines = list(cutter.feed(log("master", 0, b"x" * (3 * MAX_LINE_BYTES + 5), 1)))
    assert [len(line.text) for line in lines] == [MAX_LINE_BYTES] * 3


def test_follow_holds_output_until_the_start_is_known() -> None:
    """Output that overtakes the news of the start is printed behind it, at its time."""
    view = FollowView()
    cutter = LineCutter()
    (line,) = cutter.feed(log("master", 0, b"early\n", 0.25))
    assert view.hear(line) == []
    assert view.see(running_job())[-1] == "  0.25 s   master    | early"


def test_follow_tells_each_thing_once() -> None:
    """The same snapshot again adds no line."""
    view = FollowView()
    assert view.see(ended_job())
    assert view.see(ended_job()) == []


def test_follow_tells_of_a_task_that_ended_by_itself() -> None:
    """A task whose make ended is a line with its status."""
    view = FollowView()
    view.see(running_job())
    job = running_job()
    job.tasks[1].state = common.TASK_STATE_EXITED
    job.tasks[1].exit.CopyFrom(
        common.TaskExit(reason=common.REASON_EXITED_NONZERO, exit_status=2, recipe_status=7)
    )
    job.tasks[1].runs[0].ended_at.CopyFrom(stamp(4.1))
    assert view.see(job) == ["  4.10 s   slave-0   ended: make exited 2 (its recipe 7)"]


def test_follow_tells_the_bounds_that_a_task_met() -> None:
    """A bound that was met stands behind the end of its task."""
    view = FollowView()
    view.see(running_job())
    job = running_job()
    job.tasks[1].state = common.TASK_STATE_EXITED
    met = [common.ANNOTATION_DISK_FULL, common.ANNOTATION_PIDS_LIMIT]
    job.tasks[1].exit.CopyFrom(
        common.TaskExit(reason=common.REASON_EXITED_NONZERO, exit_status=2, annotations=met)
    )
    job.tasks[1].runs[0].ended_at.CopyFrom(stamp(4.1))
    text = "ended: make exited 2; its disk was full, it was denied processes"
    assert view.see(job) == [f"  4.10 s   slave-0   {text}"]


def test_follow_of_a_requeued_job_begins_anew() -> None:
    """A new attempt is told, and its faults are its own."""
    view = FollowView()
    first = running_job()
    first.faults.append(fault(1, common.FAULT_KIND_KILL, "slave-0", 1.0))
    view.see(first)
    again = running_job()
    again.attempt = 2
    again.faults.append(fault(1, common.FAULT_KIND_KILL, "slave-1", 1.0))
    lines = view.see(again)
    assert lines[0] == "job 12     requeued, attempt 2"
    assert any("killed    slave-1" in line for line in lines)


@pytest.mark.parametrize(
    ("waits_for", "told"),
    [
        ("alice has 1 of 1 running job (job 1 ends in at most 9 min)", "alice has 1 of 1 running job (job 1"),
        ("team red has 8 of 8 slots at once", "team red has 8 of 8 slots at once"),
        ("2 of 4 slots", "waits for 2 of 4 slots"),
        ("its turn: job 3 goes first", "waits for its turn: job 3 goes first"),
        ("its turn: another user's job goes first", "waits for its turn: another user's job goes first"),
        ("its slots are about to be asked", "its slots are about to be asked"),
    ],
)
def test_what_a_job_waits_for_is_a_sentence(waits_for: str, told: str) -> None:
    """Whatever it is."""
    job = queued_job()
    job.waits_for = waits_for
    assert FollowView(width=120).see(job)[0].startswith(f"job 12     queued, place 2 of 3: {told}")


@pytest.mark.parametrize("which", ["job 9", "another user's job"])
def test_follow_does_not_count_the_seconds_of_a_wait(which: str) -> None:
    """A queued job is told again when its place or what it lacks changes, not as time runs."""
    view = FollowView(width=120)
    job = queued_job()
    job.waits_for = f"2 of 4 slots ({which} ends in at most 4 min 10 s)"
    assert len(view.see(job)) == 1
    job.waits_for = f"2 of 4 slots ({which} ends in at most 4 min 9 s)"
    assert view.see(job) == []
    job.queue_place = 1
    assert view.see(job)[0].startswith("job 12     queued, place 1 of 3: waits for 2 of 4 slots")
