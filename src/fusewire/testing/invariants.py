"""What must hold of a kernel's half after every step, and at rest: the twelve invariants of a FUSE request queue.

Each names the policies of interruption that it holds for. What the queue itself shows is looked at after each step; what
was done meanwhile is read from the event stream; what the daemon was asked and granted, a :class:`Witness` writes down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..kernel.queue import POLICIES, Connection, Request, State, Task
from ..wire.codec import decode_reply, decode_request, iter_direntplus, without_resend
from ..wire.flags import ROOT_ID, Opcode, PollEvent

if TYPE_CHECKING:
    from ..drive import Mount

ALL = frozenset(POLICIES)
NO_LATE_ANSWERS = frozenset({"linux", "freebsd", "starnix"})  # callers that wait for the answer of what was read


class Broken(AssertionError):
    """An invariant does not hold. ``number`` is its place in the list, 1 to 12."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"invariant {number} ({INVARIANTS[number - 1].says}): {what}")
        self.number = number


class Invariant(NamedTuple):
    """One of the twelve. ``at_step`` and ``at_rest`` yield what is wrong with a connection."""

    says: str
    policies: frozenset[str]
    at_step: Callable[[QueueInvariants], Iterator[str]]
    at_rest: Callable[[Invariants], Iterator[str]]


class Witness:
    """Stands before a session: which nodes and files the daemon granted, and what it was asked to give back."""

    def __init__(self, session: Any) -> None:
        self.nodes: Counter[int] = Counter({ROOT_ID: 1})
        self.opens: Counter[int] = Counter()
        self.faults: list[tuple[int, frozenset[str], str]] = []
        self._released: set[int] = set()  # RESEND may bring one twice, and the daemon has to know
        self._handle, self._undelivered = session.handle, session.undelivered
        session.handle, session.undelivered = self.handle, self.undelivered

    def handle(self, message: memoryview) -> Any:
        header, decoded = decode_request(message)
        opcode, node = Opcode(header.opcode), header.nodeid
        if opcode is Opcode.FORGET:
            self._forget(node, decoded.structs[0].nlookup)
        elif opcode is Opcode.BATCH_FORGET:
            for one in decoded.items:
                self._forget(one.nodeid, one.nlookup)
        elif node and not self.nodes[node]:
            what = f"{opcode.name} {header.unique} names node {node}, which was given back"
            self.faults.append((7, NO_LATE_ANSWERS, what))
        if opcode in (Opcode.RELEASE, Opcode.RELEASEDIR) and without_resend(header.unique) not in self._released:
            self._released.add(header.unique)
            self.opens[node] -= 1
            if self.opens[node] < 0:
                self.faults.append((6, ALL, f"{opcode.name} of node {node}, which is not open"))
        answer = self._handle(message)
        if isinstance(answer, tuple):
            self._granted(opcode, node, answer, 1)
        return answer

    def undelivered(self, message: memoryview, answer: Any) -> None:
        """The kernel's half did not take the answer: nothing was granted."""
        header, _ = decode_request(message)
        self._granted(Opcode(header.opcode), header.nodeid, answer, -1)
        self._undelivered(message, answer)

    def _granted(self, opcode: Opcode, node: int, answer: Any, by: int) -> None:
        out, decoded = decode_reply(opcode, b"".join(answer))
        if out.error:
            return
        if opcode is Opcode.READDIRPLUS:
            for name, _, entry in iter_direntplus(decoded.data):
                if entry.nodeid and name not in (b".", b".."):
                    self.nodes[entry.nodeid] += by
        for struct in decoded.structs:
            if type(struct).__name__ == "EntryOut" and struct.nodeid:
                self.nodes[struct.nodeid] += by
                node = struct.nodeid
            elif type(struct).__name__ == "OpenOut":
                self.opens[node] += by

    def _forget(self, node: int, nlookup: int) -> None:
        self.nodes[node] -= nlookup
        if self.nodes[node] < 0:
            what = f"node {node} was given back {-self.nodes[node]} times more than it was granted"
            self.faults.append((7, ALL, what))


class QueueInvariants:
    """What of the twelve a state of a queue shows by itself, for the policy that it has."""

    def __init__(self, fc: Connection) -> None:
        self.fc = fc
        self._active = [one for one in INVARIANTS if fc.policy.name in one.policies]
        self._at_step = [one for one in self._active if one.at_step is not _nothing]

    def check(self) -> None:
        """Raises :class:`Broken`."""
        for invariant in self._at_step:
            for what in invariant.at_step(self):
                raise Broken(INVARIANTS.index(invariant) + 1, what)

    @property
    def requests(self) -> Iterator[Request]:
        return iter(self.fc.unused_list.in_use)


class Invariants(QueueInvariants):
    """Watches one mount. ``after_step`` is a hook of the driver; call ``at_rest`` when nobody can go on any more.

    The kernel must record its events (``Kernel(trace=True)``), for what happens between two steps.
    """

    def __init__(self, mount: Mount, witness: Witness | None = None) -> None:
        if mount.kernel.events is None:
            raise ValueError("the invariants read the event stream: Kernel(trace=True)")
        super().__init__(mount.connection)
        self.mount = mount
        self.events = mount.kernel.events
        self.witness = witness
        self.checked = 0
        self.read: dict[int, bool] = {}  # uniques that a daemon has read; whether their answer was accepted
        self.gone: set[int] = set()  # uniques that were withdrawn before anyone had read them
        self._pending: dict[int, bool] = {}  # as of the last step; whether they are forced

    def after_step(self, task: Task) -> None:
        """Raises :class:`Broken`."""
        self.checked += 1
        self._read_events()
        self.check()
        if self.witness is not None and self.witness.faults:
            number, policies, what = self.witness.faults[0]
            if self.fc.policy.name in policies:
                raise Broken(number, what)
            self.witness.faults.clear()

    def at_rest(self) -> None:
        """Raises :class:`Broken`."""
        for invariant in self._active:
            for what in invariant.at_rest(self):
                raise Broken(INVARIANTS.index(invariant) + 1, what)

    def _read_events(self) -> None:
        for event in self.events:
            if event.text == "copy req to read buffer":
                if event.unique in self.gone:
                    raise Broken(5, f"request {event.unique} was withdrawn, and read all the same")
                self.read.setdefault(event.unique, False)
            elif event.text == "remove from fc->processing":
                self.read[event.unique] = True
            elif event.text.startswith("copy interrupt of") and self.read.get(event.unique) is not False:
                when = "after its answer was accepted" if event.unique in self.read else "before it was read itself"
                raise Broken(4, f"INTERRUPT of {event.unique} was delivered {when}")
        self.events.clear()
        unread = {req.unique for req in self.fc.pending}
        unread.update(req.unique for device in self.fc.devices for req in device.io)
        for unique, forced in self._pending.items():
            if unique not in unread and unique not in self.read:
                self.gone.add(unique)
                if forced and self.fc.connected and not self.fc.timeouts.limit:
                    raise Broken(6, f"request {unique} was withdrawn")
        self._pending = {req.unique: bool(req.args and req.args.force) for req in self.fc.pending}


def _nothing(watch: QueueInvariants) -> Iterator[str]:
    return iter(())


def _one_place(watch: QueueInvariants) -> Iterator[str]:
    fc = watch.fc
    places: Counter[Request] = Counter()
    for where, state in (
        (list(fc.background.bg_queue), (State.BACKGROUND,)),
        (list(fc.pending), (State.PENDING,)),
        *((list(device.io), (State.READING, State.WRITING)) for device in fc.devices),
        *((list(device.processing), (State.PROCESSING, State.ORPHANED)) for device in fc.devices),
    ):
        for req in where:
            places[req] += 1
            if req.state not in state:
                yield f"{req!r} lies where it does not belong"
            if req not in fc.unused_list.in_use:
                yield f"{req!r} is under way and free at once"
    for req in watch.requests:
        due = 0 if req.state in (State.UNUSED, State.FINISHED) else 1
        if places[req] != due:
            yield f"{req!r} is in {places[req]} places"
    for req in fc.unused_list.free:
        if req.state is not State.UNUSED:
            yield f"{req!r} is on fc->unused_list"


def _nobody_sleeps_on_the_finished(watch: QueueInvariants) -> Iterator[str]:
    for req in watch.requests:
        if req.finished and any(waiter.task.sleep is not None and not waiter.woken for waiter in req.waitq.waiters):
            yield f"{req!r} has ended, and its caller sleeps on"


def _all_given_back(watch: Invariants) -> Iterator[str]:
    for req in watch.requests:
        if req.finished or not watch.fc.connected:
            yield f"{req!r} was never given back"


def _counted(watch: QueueInvariants) -> Iterator[str]:
    fc = watch.fc
    least = len(fc.unused_list.in_use) + len(fc.background.owed)
    if fc.num_waiting < least:
        yield f"num_waiting is {fc.num_waiting}, {least} requests are under way"
    if len(fc.unused_list.in_use) > fc.unused_list.limit + fc.unused_list.reserve and fc.connected:
        yield f"{len(fc.unused_list.in_use)} slots are taken"


def _counted_at_rest(watch: Invariants) -> Iterator[str]:
    if not watch.fc.connected and watch.fc.num_waiting:
        yield f"num_waiting is {watch.fc.num_waiting} after the end"


def _interrupts(watch: QueueInvariants) -> Iterator[str]:
    fc = watch.fc
    for unique, req in fc.interrupts.items():
        if req.unique != unique or req.state not in (State.PROCESSING, State.ORPHANED):
            yield f"an INTERRUPT of {unique} is queued, which is {req!r}"
        if not req.interrupted:
            yield f"an INTERRUPT of {unique} is queued, whose caller got no signal"
    if fc.no_interrupt and fc.interrupts:
        yield "the daemon answered ENOSYS, and an INTERRUPT is queued"
    if fc.interrupts and not fc.policy.interrupt:
        yield f"the policy {fc.policy.name} sends no INTERRUPT"


def _callers_wait(watch: QueueInvariants) -> Iterator[str]:
    for req in watch.requests:
        args = req.args
        read = req.state in (State.PROCESSING, State.WRITING, State.ORPHANED)
        if read and req.detached and args is not None and not args.noreply and not req.timed_out:
            yield f"{req!r} was read, and its caller did not wait for the answer"


def _released(watch: Invariants) -> Iterator[str]:
    if watch.witness is None or not watch.fc.connected:
        return
    held: Counter[int] = Counter()
    for program in {task.program for task in _tasks(watch)}:
        for file in set(program.files.table.values()):
            inode = getattr(file, "inode", None)
            if inode is not None and inode.sb is watch.mount.sb:
                held[inode.nodeid] += 1
    for node, opens in watch.witness.opens.items():
        if opens != held[node]:
            yield f"node {node} is open {opens} times at the daemon, {held[node]} times here"


def _tasks(watch: Invariants) -> Iterator[Any]:
    return (task for task in watch.mount.kernel.driver.tasks if hasattr(task, "program"))


def _nlookup(watch: Invariants) -> Iterator[str]:
    if watch.witness is None or not watch.fc.connected:
        return
    inodes = watch.mount.sb.inodes
    for node in set(watch.witness.nodes) | set(inodes):
        granted, here = watch.witness.nodes[node], inodes[node].nlookup if node in inodes else 0
        if granted != here:
            yield f"the daemon granted node {node} {granted} times more than were given back, {here} are known here"


def _checked_answers(watch: QueueInvariants) -> Iterator[str]:
    for req in watch.requests:
        args = req.args
        if args is None or not req.finished or req.error:
            continue
        room = 0 if args.out is None else len(args.out)
        if req.answered > room or (req.answered < room and not args.argvar and req.answered):
            yield f"{req!r} took an answer of {req.answered} bytes, {room} are right"


def _background(watch: QueueInvariants) -> Iterator[str]:
    fc, background = watch.fc, watch.fc.background
    queued = len(background.bg_queue)
    under_way = sum(req.background for req in watch.requests)
    if background.num_background != under_way or background.active_background != under_way - queued:
        yield (
            f"{under_way} background requests, {queued} of them held back: the counters say"
            f" {background.num_background} and {background.active_background}"
        )
    if fc.connected and background.active_background > background.max_background:
        yield f"{background.active_background} lie before the daemon, {background.max_background} may"
    if fc.connected and queued and background.active_background < background.max_background:
        yield f"{queued} are held back, although only {background.active_background} lie before the daemon"
    if fc.connected and fc.initialized and not background.blocked:
        stuck = [w for w in fc.blocked_waitq.waiters if w.task.sleep is not None and not w.woken]
        if len(stuck) and background.num_background == 0:
            yield f"{stuck[0].task!r} sleeps on fc->blocked_waitq, and nothing is blocked"


def _over(watch: QueueInvariants) -> Iterator[str]:
    fc = watch.fc
    if fc.connected:
        return
    if fc.pending or fc.background.bg_queue or fc.interrupts or fc.forgets:
        yield "something is still queued after the end"
    for device in fc.devices:
        if device.processing or any(not req.locked for req in device.io):
            yield "a device still has requests after the end"
        if device.poll() != PollEvent.ERR:
            yield f"a device polls as {device.poll()!r} after the end"
    if any(waiter.task.sleep is not None for waiter in fc.waitq.waiters):
        yield "a reader sleeps on after the end"


def _no_notification_waits(watch: Invariants) -> Iterator[str]:
    for task in _tasks(watch):
        if task.doing == "sys_write" and task.sleep is not None and task in watch.fc.readers:
            enders = task.sleep.enders() or ()
            for owner in enders:
                blocked = any(req.caller is owner and not req.finished for req in watch.requests)
                if blocked and not any(ender is not task for ender in watch.fc.serving()):
                    yield f"{task!r} notifies and waits for {owner!r}, whose request only it could answer"


def _init_first(watch: QueueInvariants) -> Iterator[str]:
    fc = watch.fc
    if fc.initialized and not fc.refused:
        return
    if fc.forgets:
        yield "a FORGET is readable before INIT was answered"
    for req in fc.pending:
        if req.args is not None and req.args.opcode is not Opcode.INIT:
            yield f"{req!r} is readable before INIT was answered"


INVARIANTS: tuple[Invariant, ...] = (
    Invariant("a request is in exactly one place", ALL, _one_place, _nothing),
    Invariant("a request ends once, and whoever waits is woken", ALL, _nobody_sleeps_on_the_finished, _all_given_back),
    Invariant("num_waiting counts, and is 0 after an abort", ALL, _counted, _counted_at_rest),
    Invariant("INTERRUPT comes between its request and the answer, once", ALL, _interrupts, _nothing),
    Invariant("unread and fatal: never read; read: the caller stays", NO_LATE_ANSWERS, _callers_wait, _nothing),
    Invariant("forced requests are not withdrawn; RELEASE once per open", ALL, _nothing, _released),
    Invariant("every reference granted is given back once", ALL, _nothing, _nlookup),
    Invariant("an answer fits its request", ALL, _checked_answers, _nothing),
    Invariant("background requests are counted and limited", ALL, _background, _nothing),
    Invariant("after the end nothing is queued and nobody sleeps", ALL, _over, _nothing),
    Invariant("no notification waits for whom it must answer", ALL, _nothing, _no_notification_waits),
    Invariant("before INIT is answered nothing else is readable", ALL, _init_first, _nothing),
)
