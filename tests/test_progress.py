"""Progress of a long computation: nothing unless asked for, and then few lines."""

from thruway.progress import _lines, show_progress


def test_progress_is_silent_unless_asked_for(capsys):
    with show_progress("lesions", 10, shown=False) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")
    with show_progress("lesions", 4, shown=True) as advance:
        for _ in range(4):
            advance(1)
    written = capsys.readouterr()
    assert written.out == ""
    assert [line.split("%")[0].strip() for line in written.err.splitlines()] == ["25", "50", "75", "100"]
    assert "about 0 s left" in written.err


def test_long_progress_prints_twenty_lines_and_unknown_length_a_few():
    printed = []
    advance = _lines("lesions", 1000, printed.append)
    for _ in range(1000):
        advance(1)
    assert len(printed) == 20
    printed.clear()
    advance = _lines("lesions", None, printed.append)
    for _ in range(1000):
        advance(1)
    assert [line.split()[1] for line in printed] == ["2", "4", "8", "16", "32", "64", "128", "256", "512"]
