"""The drawing of a front: where points lie, and that labels do not cover each other."""

import xml.etree.ElementTree as ET

from export.search.plot import LINE, front_svg

SVG = "{http://www.w3.org/2000/svg}"


def row(name, p50_ms, share, engine="onnxruntime"):
    return {"name": name, "p50_ms": p50_ms, "share": share, "engine": engine}


def drawn(*rows, choice="int8", front=("int8", "fp32")):
    return ET.fromstring(front_svg({"rows": list(rows), "front": list(front), "choice": choice}))


def dots(svg):
    return {c.get("class"): (float(c.get("cx")), float(c.get("cy"))) for c in svg.findall(f"{SVG}circle")}


def test_slower_is_further_right_and_less_error_further_down():
    found = dots(drawn(row("int8", 1.0, 0.5), row("fp32", 2.0, 0.0), row("ov", 1.5, 0.2, "openvino")))
    assert found["chosen"][0] < found["baseline"][0] < found["lead"][0]
    assert found["chosen"][1] < found["baseline"][1] < found["lead"][1]


def test_a_candidate_behind_the_front_is_grey():
    assert "dot" in dots(drawn(row("int8", 1.0, 0.5), row("fp32", 2.0, 0.0), row("bad", 3.0, 4.0)))


def test_an_error_that_is_not_finite_stands_on_top():
    found = dots(drawn(row("int8", 1.0, 0.5), row("fp32", 2.0, 0.0), row("nan", 3.0, None)))
    assert found["dot"][1] < found["chosen"][1]


def test_labels_of_points_in_one_place_stand_below_each_other():
    svg = drawn(row("int8", 1.0, 0.5), row("fp32", 1.0, 0.5), row("third", 1.0, 0.5))
    lines = sorted(float(t.get("y")) for t in svg.findall(f"{SVG}text") if t.text in ("int8 (ships)", "fp32", "third"))
    assert lines[1] - lines[0] >= LINE - 0.2
    assert lines[2] - lines[1] >= LINE - 0.2


def test_a_name_cannot_break_the_drawing():
    svg = drawn(row("<int8>", 1.0, 0.5), row("fp32", 2.0, 0.0), choice="<int8>", front=("<int8>", "fp32"))
    assert any(t.text == "<int8> (ships)" for t in svg.findall(f"{SVG}text"))
