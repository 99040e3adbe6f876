"""Mistakes by kind, with their cases."""

import pytest

from ffreid.engine.findings import NAMED, Findings, Kind
from ffreid.errors import UserError

GREY = Kind("images", "grey images", "store colours")


def test_cases_are_counted_once_and_by_check(capsys: pytest.CaptureFixture[str]) -> None:
    findings = Findings("mine", "images", "labels")
    findings.checked["images"] += 9
    for number in (*range(NAMED + 2), 0):
        findings.add(GREY, f"{number}.png\x1b")
    findings.add_error("labels", "labels that cannot be used", UserError("no label", "add one"))
    findings.notes.append("one is not checked")
    findings.tables.append(("more", ["a"], [[7]]))
    assert (findings.wrong(), findings.wrong("images"), findings.wrong("labels")) == (8, 7, 1)
    findings.show()
    out, err = capsys.readouterr()
    assert "images: grey images: 7\n  0.png\\x1b\n" in out
    assert f"  {NAMED - 1}.png\\x1b\n  … and 2 more\n  mend: store colours\n" in out
    assert "labels: labels that cannot be used: 1\n  no label\n  mend: add one\n" in out
    assert err == "note: one is not checked\n"
    payload = findings.payload()
    assert [kind["count"] for kind in payload["mistakes"]] == [7, 1]
    assert len(payload["mistakes"][0]["cases"]) == 7
    assert payload["checks"][0] == {"check": "images", "checked": 9, "wrong": 7}
