import json
import re
from pathlib import Path

import pytest
from dvc_render.html import HTML

from stages import plots

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / ".dvc/plots-offline.html"


def test_script_defines_what_the_charts_call(tmp_path, monkeypatch):
    """DVC's charts call vegaEmbed; the script makes it, the same bytes each time, no early end."""
    monkeypatch.chdir(tmp_path)
    plots.main()
    first = plots.SCRIPT.read_bytes()
    assert b"window.vegaEmbed=" in first
    assert b"</script" not in first.lower()
    plots.main()
    assert plots.SCRIPT.read_bytes() == first


def test_page_loads_the_script_before_any_other_and_nothing_from_afar():
    """The page's first script is the stage's file; DVC's own stand in an inert template."""
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r'<script src="([^"]+)"', page) == [f"../{plots.SCRIPT}"]
    assert "http" not in page
    document = HTML(page).with_scripts('<script src="https://far.example/vega"></script>')
    filled = document.with_element("<div>chart</div>").embed()
    inert = filled[filled.index("<template") : filled.index("</template>")]
    assert filled.count("https://") == inert.count("https://") == 1
    assert "<div>chart</div>" in filled
    assert not re.search(r"\{(scripts|plot_divs|refresh_tag)\}", filled)


@pytest.mark.parametrize("path", sorted((ROOT / ".dvc/plots").glob("*.json")), ids=lambda p: p.stem)
def test_our_templates_take_the_data_from_dvc(path):
    """Each is JSON, shows every revision, and names the placeholder that DVC fills with rows."""
    template = json.loads(path.read_text(encoding="utf-8"))
    assert template["data"] == {"values": "<DVC_METRIC_DATA>"}
    assert template["facet"]["column"]["field"] == "rev"
