"""Having the server's own thread run a function."""

from __future__ import annotations

import queue
import threading

from runtime.transport import completion_queue
from tests.transport.rig import WAIT_S, eventually


def test_a_posted_function_answers_on_the_servers_thread(rig):
    threads = []

    def handler(call):
        threads.append(threading.current_thread())

        def answer():
            threads.append(threading.current_thread())
            call.respond(call.request)

        def elsewhere():
            if not call.post(answer):
                answer()

        threading.Thread(target=elsewhere).start()

    rig.server.add_unary("/t.T/Posted", handler)
    with rig.channel() as channel:
        for number in range(100):
            assert channel.unary_unary("/t.T/Posted")(b"%d" % number, timeout=WAIT_S) == b"%d" % number
    if isinstance(rig.server, completion_queue.Server):
        assert len(set(threads)) == 1


def test_an_answered_call_takes_no_post(rig):
    taken = queue.Queue()

    def handler(call):
        call.respond(b"")
        taken.put(call.post(lambda: taken.put("ran")))

    rig.server.add_unary("/t.T/Late", handler)
    with rig.channel() as channel:
        channel.unary_unary("/t.T/Late")(b"", timeout=WAIT_S)
    assert taken.get(timeout=WAIT_S) is False


def test_a_call_that_is_cancelled_while_posted_ends(rig):
    """The post holds the call open; its end must be told all the same, and nothing may stay behind."""
    posted, cancelled, over = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def handler(call):
        call.on_done(lambda was_cancelled: (seen.append(was_cancelled), over.set()))

        def elsewhere():
            posted.set()
            cancelled.wait(WAIT_S)
            for _ in range(1000):
                if over.is_set() or not call.post(lambda: None):
                    break

        threading.Thread(target=elsewhere).start()

    rig.server.add_unary("/t.T/Gone", handler)
    with rig.channel() as channel:
        future = channel.unary_unary("/t.T/Gone").future(b"")
        assert posted.wait(WAIT_S)
        future.cancel()
        cancelled.set()
        assert over.wait(WAIT_S)
    assert seen == [True]
    eventually(lambda: rig.server.active == 0)
