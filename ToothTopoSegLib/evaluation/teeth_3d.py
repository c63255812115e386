"""The 3D view of the report page: the teeth as meshes, with three.js and the script that shows them, all in the page.

In go meshes in LPS mm and the teeth and findings of a report, out comes HTML with two scripts and the policy that lets
a browser run these and nothing else. three.js is the one that trimesh carries for its own viewer; the script that uses
it is ``Resources/Page/teeth_3d.js``. Colours are those of the tooth chart. Text of the data is escaped or JSON.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.evaluation.tooth_chart import State, state_of
from ToothTopoSegLib.resources import resource_folder

if TYPE_CHECKING:
    from ToothTopoSegLib.surfaces.mesh import TriangleMesh

_COLOURS = {"error": "#e8663f", "warning": "#ffcf4a", "info": "#a9cdee", "": "#f3ead6"}
_MOST_VERTICES = 2**16
_HINT = (
    "Drag to turn, pinch or scroll to zoom, drag with two fingers or the right button to move. "
    "Click a tooth here or in the chart to see where it is."
)
_BUTTONS = (
    ("jaw", (("both", "Both jaws"), ("upper", "Upper"), ("lower", "Lower"))),
    (
        "view",
        (("front", "Front"), ("right", "Right"), ("left", "Left"), ("above", "From above"), ("below", "From below")),
    ),
    ("zoom", (("0.8", "+"), ("1.25", "−"))),
)
_NAMES = {"jaw": "Jaws", "view": "Looking from", "zoom": "Zoom"}

STYLE = """
.view3d .stage { position: relative; border: 1px solid var(--line); border-radius: 8px; overflow: hidden;
                 background: #eef1f5; }
.view3d.ready .stage { height: min(560px, 62vh, 85vw); }
.view3d .stage > .absent, .view3d noscript p { margin: 0; padding: 14px; }
.view3d canvas, .view3d .absent { display: none; }
.view3d.ready canvas { display: block; width: 100%; height: 100%; touch-action: none; cursor: grab; }
.view3d.without .absent { display: block; }
.view3d canvas:focus-visible { outline: 2px solid #0057b8; outline-offset: -2px; }
.view3d .tip { position: absolute; margin: 0; padding: 3px 8px; border-radius: 4px; background: #1a1d22; color: #fff;
               font-size: .85rem; pointer-events: none; max-width: 90%; }
.view3d .tools { display: none; flex-wrap: wrap; gap: 8px 16px; margin: 8px 0; }
.view3d.ready .tools { display: flex; }
.view3d .group { display: flex; flex-wrap: wrap; gap: 4px; }
.view3d button { font: inherit; font-size: .9rem; padding: 5px 12px; border: 1px solid #b4bbc6; border-radius: 6px;
                 background: #fff; color: inherit; cursor: pointer; }
.view3d button[aria-pressed=true] { background: #0057b8; border-color: #0057b8; color: #fff; }
.view3d .chosen { margin: 6px 0 0; min-height: 1.5em; }
.show3d { display: none; font-size: .85rem; } .with-3d .show3d { display: inline-block; }
.chart .chosen .body { stroke: #0057b8; stroke-width: 1.2; }
@media print {
  .view3d.ready .tools, .view3d .tip, .view3d .chosen, .with-3d .show3d { display: none; }
  .view3d { break-inside: avoid; } .view3d.ready .stage { height: 84mm; } .view3d canvas { object-fit: contain; }
}
"""


@dataclass(frozen=True)
class View3d:
    """HTML of the view, its scripts for the end of the page, and the sources of scripts that its policy allows."""

    html: str
    scripts: str
    allowed: str


def view_3d(
    meshes: Mapping[int, TriangleMesh], teeth: Sequence[Mapping[str, Any]], findings: Sequence[Mapping[str, Any]]
) -> View3d | None:
    """The view of meshes by FDI number, coloured by the findings of a report (schema ``toothtoposeg.report/1``).

    None where the installed trimesh carries no three.js: a page without a 3D view is better than none.
    """
    library = three_js()
    if library is None:
        return None
    own = (resource_folder() / "Page" / "teeth_3d.js").read_text(encoding="utf-8")
    scripts = library, own
    data = json.dumps(_scene(meshes, findings), separators=(",", ":")).replace("<", "\\u003c")
    embedded = f'<script type="application/json" id="teeth-3d-data">{data}</script>\n'
    return View3d(
        _html(len(teeth)),
        embedded + "\n".join(f"<script>{script}</script>" for script in scripts),
        " ".join(f"'sha256-{_digest(script)}'" for script in scripts),
    )


@lru_cache
def three_js() -> str | None:
    """three.js as one script that defines ``THREE``, from the viewer of trimesh; None where it has another viewer."""
    from trimesh import resources, util

    archive = util.decompress(resources.get_bytes("templates/viewer.zip"), file_type="zip")
    page = archive["viewer.html.template"].read().decode("utf-8")
    _, start, rest = page.partition("<script>")
    # after three.js come controls and a loader that this view has no use for
    script, end, _ = rest.partition("\n(function(){const _changeEvent=")
    return str(script) if start and end and "THREE" in script else None


def show_link(teeth: Sequence[int], words: str, place: object = None) -> str:
    """A link that shows teeth (FDI numbers) and a place (LPS mm), if any, in the view; hidden where there is none."""
    where = f' data-place="{escape(json.dumps(place))}"' if place else ""
    return (
        f'<a class="show3d" href="#teeth-3d" data-teeth="{escape(json.dumps(list(teeth)))}"'
        f' data-words="{escape(words)}"{where}>Show in 3D</a>'
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _html(count: int) -> str:
    groups = "".join(
        f'<div class="group" role="group" aria-label="{_NAMES[kind]}">{_buttons(kind, entries)}</div>'
        for kind, entries in _BUTTONS
    )
    return f"""<section id="teeth-3d" class="view3d">
<div class="stage"><canvas tabindex="0" role="img" aria-label="3D view of {count} teeth"></canvas>
<p class="tip" hidden></p>
<p class="absent">The 3D view needs WebGL, which this browser does not offer or has switched off. The rest of this page
works without it.</p>
<noscript><p>The 3D view needs scripts, which are switched off here. The rest of this page works without
them.</p></noscript></div>
<div class="tools">{groups}<button type="button" data-all="">Show all</button></div>
<p class="chosen dim" aria-live="polite" data-hint="{escape(_HINT)}"></p>
</section>"""


def _buttons(kind: str, entries: Sequence[tuple[str, str]]) -> str:
    names = {"+": "Closer", "−": "Farther"}
    return "".join(
        f'<button type="button" data-{kind}="{value}"{_named(names.get(text))}>{text}</button>'
        for value, text in entries
    )


def _named(name: str | None) -> str:
    return f' aria-label="{name}"' if name else ""


def _scene(meshes: Mapping[int, TriangleMesh], findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the script reads: positions as steps from one corner of the scene in 16 bits, far finer than any voxel."""
    places = [mesh.vertices for mesh in meshes.values()]
    low = np.min([p.min(axis=0) for p in places], axis=0) if places else np.zeros(3)
    extent = float(np.max([p.max(axis=0) for p in places] - low)) if places else 0.0
    step = max(extent, 1.0) / (_MOST_VERTICES - 1)
    teeth = [
        _tooth(number, mesh, state_of(number, True, findings), low, step)
        for number, mesh in meshes.items()
        if len(mesh.vertices) <= _MOST_VERTICES
    ]
    return {"low": low.tolist(), "step": step, "teeth": teeth}


def _tooth(number: int, mesh: TriangleMesh, state: State, low: NDArray[Any], step: float) -> dict[str, Any]:
    return {
        "fdi": number,
        "jaw": "upper" if fdi.is_upper(number) else "lower",
        "words": f"{number} {fdi.name(number)}: {state.words.splitlines()[0]}",
        "link": state.link,
        "colour": _COLOURS[state.severity],
        "vertices": _packed(np.rint((mesh.vertices - low) / step)),
        "triangles": _packed(mesh.faces),
    }


def _packed(values: NDArray[Any]) -> str:
    """Little-endian 16-bit numbers in base64."""
    return base64.b64encode(values.astype("<u2").tobytes()).decode("ascii")
