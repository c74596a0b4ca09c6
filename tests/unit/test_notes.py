from __future__ import annotations

import multiprocessing

import pytest

from panscape import notes


def test_a_note_is_logged_once_a_run(caplog):
    for subject in ("a.png", "b.png"):
        notes.note_once(subject, "is odd")
    notes.start_run()
    notes.note_once("c.png", "is odd")
    ending = "is odd (logged once; other files may be alike)"
    assert caplog.messages == [f"a.png: {ending}", f"c.png: {ending}"]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="loader processes are not forked")
def test_loader_processes_log_a_note_once_together(caplog):
    process = multiprocessing.get_context("fork").Process(target=notes.note_once, args=("a.png", "is odd"))
    process.start()
    process.join()
    notes.note_once("b.png", "is odd")
    assert caplog.messages == []
    notes.note_once("b.png", "is even")
    assert len(caplog.messages) == 1
