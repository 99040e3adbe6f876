"""The table of timings is complete; how fast is not a test's to judge."""

from ffreid.reid.retrieval.bench import memory_rows, size_rows


def test_rows_have_the_columns_of_the_table() -> None:
    rows = size_rows("toy", 5, 300, 20, 4, features=True)
    columns = {"stage", "milliseconds", "share", "plain milliseconds", "ratio", "peak MB"}
    assert all(set(row) == columns for row in rows)
    assert all(row["milliseconds"] > 0 for row in rows)
    assert [row["ratio"] is not None for row in rows] == [True, False]


def test_peak_memory_is_measured() -> None:
    assert [row["peak MB"] >= 0 for row in memory_rows(quick=True)] == [True]
