"""Issues of files: counted by kind and printed without control characters."""

from __future__ import annotations

import json

from panscape.errors import listed, shown
from panscape.errors import escape_control_chars
from panscape.formats.issues import Issue, IssueKind, count_by_kind


def test_issues_are_counted_and_printed_safely() -> None:
    issues = [Issue("b", IssueKind.SIZE, "x"), Issue("a", IssueKind.AREA, "y"), Issue("c", IssueKind.SIZE, "z")]
    assert count_by_kind(issues) == {"wrong size": 2, "areas that contradict the pixels": 1}
    assert [issue.is_note for issue in issues] == [False, True, False]
    assert str(issues[0]) == "b: x"
    assert shown("\x1b[31m\n\ud800") == "'\\x1b[31m\\n\\ud800'"
    assert str(Issue("\udcff\n", IssueKind.SIZE, "\x1b[31m")) == r"\udcff\n: \x1b[31m"
    assert (
        escape_control_chars("Straße, सड़क, क्\u200dष, 道路\u2028\x7f") == "Straße, सड़क, क्\u200dष, 道路" + r"\u2028\x7f"
    )
    assert len(shown("a" * 1000)) == 80
    deep = json.loads("[" * 900 + "]" * 900)
    assert len(shown(deep)) <= 80
    assert listed([1, 2, 3]) == "1, 2, 3"
    assert listed(list(range(9))) == "0, 1, 2, 3, 4 and 4 more"
