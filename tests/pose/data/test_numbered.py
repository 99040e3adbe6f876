"""LineMOD's YAML files line by line, against YAML's own loader."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ffreid.errors import UserError
from ffreid.pose.data.numbered import parse_lines, read_numbered
from tests.pose.realdata import real_folder


def by_yaml(content: bytes) -> Any:
    return yaml.load(content, yaml.BaseLoader)


ENTRY = "- cam_R_m2c: [0.1, -0.2, 1e-3]\n  obj_id: 1\n"
USUAL = {
    "one object": f"0:\n{ENTRY}1:\n{ENTRY}",
    "two objects": f"0010:\n{ENTRY}{ENTRY}1:\n{ENTRY}",
    "cameras": "0:\n  cam_K: [572.4, 0.0, 1.0]\n  depth_scale: 1.0\n",
    "windows": f"0:\n{ENTRY}".replace("\n", "\r\n"),
    "blank lines and blanks": f"\n0: \n\n{ENTRY}1:\n- obj_id: 2   \n",
    "repeated": f"0:\n{ENTRY}1:\n- obj_id: 5\n  obj_id: 6\n0:\n- obj_id: 7\n",
}
OTHER = {
    "flow": "{0: [{obj_id: 1}]}",
    "json": '{"0": [{"obj_id": 1}]}',
    "indented": "0:\n  - obj_id: 1\n",
    "comment": f"# poses\n0:\n{ENTRY}",
    "comment behind": "0:\n- obj_id: 1 # a cup\n",
    "text": "0:\n- obj_id: cup\n",
    "quoted": "0:\n- obj_id: '1'\n",
    "several lines": "0:\n- cam_R_m2c: [0.1,\n    0.2]\n",
    "no frame": ENTRY,
    "empty frame": f"0:\n1:\n{ENTRY}",
    "empty last frame": f"0:\n{ENTRY}1:\n",
    "tab": "0:\n-\tobj_id: 1\n",
    "list and names": "0:\n  obj_id: 1\n- obj_id: 1\n",
    "form feed": f"0:\f{ENTRY}",
    "accents": "0:\n- obj_id: 1\n  näme: 2\n",
    "empty": "",
    "anchor": "0:\n- &a obj_id: 1\n1:\n- *a\n",
}


@pytest.mark.parametrize("case", USUAL)
def test_the_usual_form_is_read_as_yaml_reads_it(case: str) -> None:
    content = USUAL[case].encode()
    assert parse_lines(content) == by_yaml(content)


@pytest.mark.parametrize("case", OTHER)
def test_any_other_form_is_left_to_yaml(case: str) -> None:
    assert parse_lines(OTHER[case].encode()) is None


@pytest.mark.parametrize("name", ["gt.yml", "info.yml"])
def test_linemods_files_are_read_as_yaml_reads_them(name: str) -> None:
    path = real_folder("Linemod_preprocessed") / "data" / "01" / name
    content = path.read_bytes()
    some = content[: content.index(b"\n40:\n") + 1]
    assert parse_lines(some) == by_yaml(some)
    assert len(read_numbered(path)) == 1236


def test_the_usual_form_with_another_line_is_read_by_yaml(tmp_path: Path) -> None:
    path = tmp_path / "gt.yml"
    path.write_text(f"0:\n{ENTRY}1: [{{obj_id: 2}}]\n")
    assert read_numbered(path)[1] == [{"obj_id": "2"}]
    path.write_text(f"x:\n{ENTRY}")
    with pytest.raises(UserError, match="'x' is not a frame number"):
        read_numbered(path)
