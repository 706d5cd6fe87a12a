"""Charts of reports as plotly's figures, which check every attribute that they have."""

import json

import pytest

from tessera.profiler import report_figures
from tests.profiler.report_samples import everything


@pytest.mark.parametrize("dark", [False, True])
def test_every_chart_is_a_valid_plotly_figure_with_its_data(dark: bool) -> None:
    figures = report_figures(everything(), dark=dark)
    assert len(figures) >= 10
    for name, figure in figures.items():
        text = figure.to_json()
        assert "var:--" not in text, name
        assert figure.data, name
        assert figure.layout.height > 100, name
        drawn = json.loads(text)["data"]
        assert any({"x", "y", "z", "dimensions", "values", "base"} & set(trace) for trace in drawn), name


def test_colours_are_those_of_the_page() -> None:
    light, dark = (
        [trace.marker.color for f in report_figures(everything(), dark=dark).values() for trace in f.data
         if "marker" in trace and isinstance(trace.marker.color, str)]
        for dark in (False, True)
    )  # fmt: skip
    assert "#0072b2" in light
    assert "#56b4e9" in dark
    assert "#0072b2" not in dark


def test_charts_of_one_title_are_all_there() -> None:
    from tessera.profiler.report import every_chart

    data = everything()
    assert len(report_figures(data)) == len(every_chart(data))
