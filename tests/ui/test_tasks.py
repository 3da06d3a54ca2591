"""What the window waits for: on its own thread, in order, and never after it has gone."""

from __future__ import annotations

import ast
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from diffstudio.errors import ImageProblem, Interrupted, StorageProblem
from diffstudio.ui import tasks as tasks_module
from diffstudio.ui.tasks import NewestFirstQueue, Tasks, any_in_threads

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tasks(qtbot: QtBot) -> Generator[Tasks, None, None]:
    tasks = Tasks("beside")
    yield tasks
    tasks.close()


@pytest.fixture
def gate() -> Generator[threading.Event, None, None]:
    """Holds work up in its thread until it is set."""
    gate = threading.Event()
    yield gate
    gate.set()


def waits_at(gate: threading.Event, begun: threading.Event) -> Callable[[], str]:
    def work() -> str:
        begun.set()
        assert gate.wait(30)
        return "done"

    return work


def test_work_is_done_in_a_thread_and_goes_on_in_the_windows(qtbot: QtBot, tasks: Tasks) -> None:
    seen: list[object] = []

    async def doing() -> None:
        seen.append((await tasks.to_thread(lambda: threading.current_thread().name)).partition("_")[0])
        seen.append(threading.current_thread() is threading.main_thread())

    tasks.start(doing())
    qtbot.waitUntil(lambda: len(seen) == 2)
    assert seen == ["beside", True]


def test_work_is_in_threads_until_its_result_is_taken(qtbot: QtBot, tasks: Tasks, gate: threading.Event) -> None:
    begun, seen = threading.Event(), list[bool]()

    async def doing() -> None:
        for _ in range(2):
            await tasks.to_thread(waits_at(gate, begun))
            seen.append(tasks.in_threads())
        await tasks.to_thread_with_progress(lambda report: report(1), lambda _: None)

    assert not tasks.in_threads()
    tasks.start(doing())
    qtbot.waitUntil(begun.is_set)
    assert tasks.in_threads() and any_in_threads()
    gate.set()
    time.sleep(0.1)  # the thread is done, and the window's thread cannot go on
    assert tasks.in_threads()
    qtbot.waitUntil(lambda: not tasks.in_threads())
    assert seen == [False, False]


def test_work_without_a_coroutine_is_in_threads_until_it_ends(
    qtbot: QtBot, tasks: Tasks, gate: threading.Event
) -> None:
    begun = threading.Event()
    done = tasks.submit(waits_at(gate, begun))
    assert tasks.in_threads() and begun.wait(30)
    gate.set()
    assert done.result(30) == "done"
    qtbot.waitUntil(lambda: not tasks.in_threads())


def test_what_work_raises_can_be_caught_where_it_is_awaited(qtbot: QtBot, tasks: Tasks) -> None:
    def fail() -> None:
        raise StorageProblem("The disk is full")

    async def doing() -> None:
        try:
            await tasks.to_thread(fail)
        except StorageProblem as error:
            seen.append(str(error))

    seen: list[str] = []
    tasks.start(doing())
    qtbot.waitUntil(lambda: bool(seen))
    assert seen == ["The disk is full."]


def test_what_nobody_catches_reaches_the_hook_that_shows_it(
    qtbot: QtBot, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: seen.append(error))

    async def doing() -> None:
        await tasks.to_thread(lambda: 1 / 0)

    tasks.start(doing())
    qtbot.waitUntil(lambda: bool(seen))
    assert isinstance(seen[0], ZeroDivisionError) and seen[0].__traceback__ is not None


def test_cancelled_work_is_not_heard_of_and_closing_waits_for_it(
    qtbot: QtBot, tasks: Tasks, gate: threading.Event
) -> None:
    begun, ended, heard = threading.Event(), threading.Event(), list[str]()

    def work() -> str:
        waits_at(gate, begun)()
        ended.set()
        return "done"

    async def doing() -> None:
        heard.append(await tasks.to_thread(work))

    first = tasks.start(doing())
    assert first is not None
    qtbot.waitUntil(begun.is_set)
    first.cancel()
    qtbot.waitUntil(first.done)
    tasks.start(doing())
    threading.Timer(0.05, gate.set).start()
    tasks.close()
    assert ended.is_set()
    assert tasks.start(doing()) is None
    qtbot.wait(20)
    assert heard == []


def test_a_generator_tells_how_far_it_is(qtbot: QtBot, tasks: Tasks) -> None:
    def counting() -> Generator[tuple[int, bool], None, None]:
        for number in range(3):
            yield number, threading.current_thread() is threading.main_thread()

    async def doing() -> None:
        seen.extend([item async for item in tasks.iterate_in_thread(counting())])
        seen.append("end")

    seen: list[object] = []
    tasks.start(doing())
    qtbot.waitUntil(lambda: "end" in seen)
    assert seen == [(0, False), (1, False), (2, False), "end"]


@pytest.mark.parametrize("by", ["cancelling", "closing"])
def test_a_generator_given_up_is_closed_after_its_step(
    qtbot: QtBot, tasks: Tasks, gate: threading.Event, by: str
) -> None:
    begun, closed, seen = threading.Event(), threading.Event(), list[object]()

    def endless() -> Generator[str, None, None]:
        try:
            while True:
                yield waits_at(gate, begun)()
        finally:
            closed.set()

    async def doing() -> None:
        async for item in tasks.iterate_in_thread(endless()):
            seen.append(item)

    task = tasks.start(doing())
    assert task is not None
    qtbot.waitUntil(begun.is_set)
    if by == "cancelling":
        task.cancel()
        qtbot.waitUntil(task.done)
        assert not closed.is_set()
        gate.set()
        qtbot.waitUntil(closed.is_set)
    else:
        threading.Timer(0.05, gate.set).start()
        tasks.close()
        assert closed.is_set()
    assert seen == []


def test_the_newest_question_is_answered_first_and_the_oldest_is_dropped(qtbot: QtBot, gate: threading.Event) -> None:
    newest_first, begun, answers = (
        NewestFirstQueue("newest", capacity=3),
        threading.Event(),
        list[tuple[object, object]](),
    )
    newest_first.completed.connect(lambda key, result: answers.append((key, result)))
    newest_first.submit("first", waits_at(gate, begun))
    qtbot.waitUntil(begun.is_set)
    newest_first.submit("first", lambda: "under way already")

    def damaged() -> None:
        raise ImageProblem("It is damaged")

    for key, function in (("a", str), ("b", damaged), ("c", lambda: "c"), ("d", lambda: "d"), ("b", damaged)):
        newest_first.submit(key, function)
    gate.set()
    qtbot.waitUntil(lambda: not newest_first.busy())
    assert answers == [("first", "done"), ("b", None), ("d", "d"), ("c", "c")]
    newest_first.submit("first", lambda: "again")
    qtbot.waitUntil(lambda: not newest_first.busy())
    assert answers[-1] == ("first", "again")
    newest_first.close()


def test_work_that_was_interrupted_is_answered_with_nothing_and_is_no_error(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise Interrupted("Stopped")

    async def interrupted_task() -> None:
        await tasks.to_thread(interrupted)

    raised, answers = list[BaseException](), list[object]()
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: raised.append(error))
    newest_first, tasks = NewestFirstQueue("newest"), Tasks()
    newest_first.completed.connect(lambda key, result: answers.append((key, result)))
    newest_first.submit("hash", interrupted)
    qtbot.waitUntil(lambda: answers == [("hash", None)])
    task = tasks.start(interrupted_task())
    assert task is not None
    qtbot.waitUntil(task.done)
    tasks.close()
    newest_first.close()
    assert raised == []


def test_a_handler_that_fails_does_not_end_the_answers(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    newest_first, answers = NewestFirstQueue("newest"), list[object]()
    newest_first.completed.connect(lambda key, result: answers.append(key))
    raised: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: raised.append(error))
    newest_first.submit("bad", lambda: 1 / 0)
    qtbot.waitUntil(lambda: bool(raised))
    newest_first.submit("bad", lambda: 1)
    qtbot.waitUntil(lambda: bool(answers))
    newest_first.close()


def test_a_program_that_ends_in_the_middle_of_waiting_ends_in_silence(tmp_path: Path) -> None:
    """As app.main does it: no thread, no task destroyed while pending, no coroutine never awaited."""
    code = """
import sys, time, qasync
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
from diffstudio.ui.tasks import NewestFirstQueue, Tasks, any_in_threads
app = QApplication([])
loop = qasync.QEventLoop(app)
tasks, newest_first = Tasks(), NewestFirstQueue("newest")
async def wait():
    await tasks.to_thread(time.sleep, 0.2)
    print("never")
def begin():
    for _ in range(5):
        tasks.start(wait())
    for number in range(5):
        newest_first.submit(number, lambda: time.sleep(0.1))
QTimer.singleShot(0, begin)
QTimer.singleShot(50, app.quit)
app.aboutToQuit.connect(tasks.close)
app.aboutToQuit.connect(newest_first.close)
code = loop.run_forever()
loop.close()
sys.exit(code)
"""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


POOLS = ("_thread", "_pool", "_queue_thread", "_previews", "_details", "_hashes", "_thumbnail_queue")


def holds_self(argument: ast.expr, methods: set[str], nested: dict[str, ast.AST]) -> bool:
    """Whether a thread that is given this argument holds the object `self` as well."""
    match argument:
        case ast.Name(id="self"):
            return True
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name in methods
        case ast.Lambda(body=body):
            return mentions_self(body)
        case ast.Name(id=name) if name in nested:
            return mentions_self(nested[name])
        case ast.Call(func=ast.Name(id="partial"), args=arguments, keywords=keywords):
            values = [*arguments, *(keyword.value for keyword in keywords)]
            return any(holds_self(each, methods, nested) for each in values)
    return False


def given_to_a_thread(call: ast.Call) -> list[ast.expr]:
    target = ast.unparse(call.func)
    if target.endswith(".to_thread") or target in {f"self.{pool}.submit" for pool in POOLS}:
        return call.args
    is_work = target.endswith((".to_thread_with_progress", "background_work_requested.emit", ".change_queue"))
    is_work = is_work or target == "self._call"
    return call.args[:1] if is_work else []


def mentions_self(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "self" for each in ast.walk(node))


def work_that_holds_self(tree: ast.Module) -> Iterator[str]:
    """The methods that give a thread something which holds their object."""
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        methods = [node for node in kind.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        names = {method.name for method in methods}
        for method in methods:
            nested: dict[str, ast.AST] = {
                node.name: node for node in ast.walk(method) if isinstance(node, ast.FunctionDef) and node is not method
            }
            for node in ast.walk(method):
                match node:
                    case ast.Assign(targets=[ast.Name(id=name)], value=value) if holds_self(value, names, {}):
                        nested[name] = ast.Name("self")
            for call in (node for node in ast.walk(method) if isinstance(node, ast.Call)):
                if any(holds_self(each, names, nested) for each in given_to_a_thread(call)):
                    yield method.name


def test_threads_hold_no_object_of_the_window() -> None:
    """A thread that drops the last reference to a QObject destroys it there, which crashes."""
    folder = Path(tasks_module.__file__).parent
    found = {
        (path.relative_to(folder).as_posix(), method)
        for path in folder.rglob("*.py")
        if path.name != "tasks.py"
        for method in work_that_holds_self(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set()


@pytest.mark.parametrize(
    ("work", "holds"),
    [
        ("self.tasks.to_thread(self.read)", True),
        ("self.tasks.to_thread(lambda: self.x)", True),
        ("self.tasks.to_thread(partial(f, self.read))", True),
        ("self.tasks.to_thread(nested)", True),
        ("self._thread.submit(f, self)", True),
        ("self.panel.background_work_requested.emit(work, lambda: self.done())", True),
        ("self.tasks.to_thread(self.gallery.page, self.query)", False),
        ("self.jobs.change_queue(lambda worker: worker.x(), lambda _: self.done())", False),
    ],
)
def test_how_that_is_seen(work: str, holds: bool) -> None:
    source = f"""
class Room:
    def read(self):
        return self.x
    def start(self):
        work = partial(self.read, 1)
        def nested():
            return self.x
        {work}
"""
    assert bool(list(work_that_holds_self(ast.parse(source)))) == holds


def test_the_newest_progress_of_a_thread_arrives_on_the_windows_thread(
    qtbot: QtBot, tasks: Tasks, gate: threading.Event
) -> None:
    seen: list[tuple[int, int, bool]] = []
    results: list[str] = []

    def work(progress: Callable[[int, int], None]) -> str:
        progress(1, 3)
        progress(2, 3)
        assert gate.wait(30)
        progress(3, 3)
        return "done"

    async def doing() -> None:
        results.append(
            await tasks.to_thread_with_progress(
                work, lambda done, of: seen.append((done, of, threading.current_thread() is threading.main_thread()))
            )
        )

    tasks.start(doing())
    qtbot.waitUntil(lambda: len(seen) == 1)
    assert seen == [(2, 3, True)]  # one that came before another was looked at is left out
    gate.set()
    qtbot.waitUntil(lambda: results == ["done"])
    assert seen[-1] == (3, 3, True)


def test_work_with_progress_that_fails_raises_where_it_is_awaited(qtbot: QtBot, tasks: Tasks) -> None:
    problems: list[str] = []

    def fail(progress: Callable[..., None]) -> None:
        raise StorageProblem("The disk is full")

    async def doing() -> None:
        try:
            await tasks.to_thread_with_progress(fail, lambda: None)
        except StorageProblem as problem:
            problems.append(problem.what)

    tasks.start(doing())
    qtbot.waitUntil(lambda: problems == ["The disk is full"])
