"""Tables of text."""

from __future__ import annotations

from panscape.metrics.tables import format_table


def test_names_do_not_break_lines_or_send_commands():
    assert format_table([["a\nb", "1"], ["\x1b[31mred", "20"]]).splitlines() == ["a\\nb          1", "\\x1b[31mred  20"]
