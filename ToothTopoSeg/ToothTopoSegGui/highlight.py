"""A few teeth of a segmentation shown clearly and the others faded, and the user's own look given back afterwards.

The look before is kept in an attribute of the display node, so that it comes back even where the scene was saved and
loaded in between. Nothing here touches voxels.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from ToothTopoSegGui.nodes import FIRST_JAW

_ATTRIBUTE = "ToothTopoSeg.LookBefore"
_OPACITIES = ("Opacity3D", "Opacity2DFill", "Opacity2DOutline")
_LOOKS = ("Visibility", *_OPACITIES)
_FADED = {"Opacity3D": 0.15, "Opacity2DFill": 0.15, "Opacity2DOutline": 0.4}
_FADED_JAW = {"Opacity3D": 0.04, "Opacity2DFill": 0.1, "Opacity2DOutline": 0.3}


def highlight(segmentation_node: Any, numbers: Mapping[str, int], teeth: Collection[int]) -> None:
    """Fade all segments but those of these teeth, which are shown; ``numbers`` are the FDI numbers of the segments.

    Where none of the teeth has a segment, as when one is missing, the user's own look is given back.
    """
    clear = {identifier for identifier, number in numbers.items() if number in teeth}
    display = segmentation_node.GetDisplayNode()
    if display is None or not clear:
        give_back(segmentation_node)
        return
    identifiers = segmentation_node.GetSegmentation().GetSegmentIDs()
    before = _kept(display) or {}
    before |= {identifier: _look(display, identifier) for identifier in identifiers if identifier not in before}
    changing = display.StartModify()
    display.SetAttribute(_ATTRIBUTE, json.dumps(before))
    for identifier in identifiers:
        faded = _FADED_JAW if numbers.get(identifier, 0) >= FIRST_JAW else _FADED
        look = dict(before[identifier])
        if identifier in clear:
            look |= {"Visibility": True, "Opacity3D": 1.0}
        else:
            look |= {name: before[identifier][name] * share for name, share in faded.items()}
        _show(display, identifier, look)
    display.EndModify(changing)


def give_back(segmentation_node: Any) -> None:
    """Show the segments as they were before :func:`highlight`; nothing happens where nothing is highlighted."""
    display = segmentation_node.GetDisplayNode()
    before = _kept(display) if display is not None else None
    if before is None:
        return
    there = set(segmentation_node.GetSegmentation().GetSegmentIDs())
    changing = display.StartModify()
    for identifier in there & set(before):
        _show(display, identifier, before[identifier])
    display.RemoveAttribute(_ATTRIBUTE)
    display.EndModify(changing)


def is_highlighted(segmentation_node: Any) -> bool:
    """Whether a look is waiting to be given back."""
    display = segmentation_node.GetDisplayNode()
    return display is not None and _kept(display) is not None


def _kept(display: Any) -> dict[str, dict[str, Any]] | None:
    text = display.GetAttribute(_ATTRIBUTE)
    return json.loads(text) if text else None


def _look(display: Any, identifier: str) -> dict[str, Any]:
    return {name: getattr(display, f"GetSegment{name}")(identifier) for name in _LOOKS}


def _show(display: Any, identifier: str, look: Mapping[str, Any]) -> None:
    for name in _LOOKS:
        getattr(display, f"SetSegment{name}")(identifier, look[name])
