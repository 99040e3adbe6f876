"""Rows of timings are complete; how fast is not a test's to judge."""

from ffreid.engine.timing import milliseconds, peak_megabytes, row


def test_a_ratio_is_plain_over_ours() -> None:
    assert row("x", 2.0, 6.0)["ratio"] == 3.0
    assert row("x", 2.0)["ratio"] is None


def test_a_part_has_no_share_of_its_own() -> None:
    assert row("x", 1.0, part=True)["share"] is None


def test_several_repeats_are_warmed_up_once() -> None:
    calls: list[int] = []
    assert milliseconds(lambda: calls.append(1), 3) >= 0
    assert len(calls) == 4
    assert milliseconds(lambda: calls.append(1), 1) >= 0
    assert len(calls) == 5


def test_the_peak_memory_never_falls() -> None:
    before = peak_megabytes()
    assert before > 1
    assert peak_megabytes() >= before
