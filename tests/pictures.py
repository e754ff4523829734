"""What a reader needs to understand a picture, asked of a matplotlib figure."""

from matplotlib.image import AxesImage


def unlabelled(figure):
    """The complaints: axes with numbers and no name, several things and no legend, colours and no scale."""
    scales = [axes for axes in figure.axes if hasattr(axes, "_colorbar")]
    panels = [axes for axes in figure.axes if axes not in scales and axes.axison]
    legends = bool(figure.legends) or any(axes.get_legend() for axes in panels)
    found = [f"a colour scale without a name: {axes}" for axes in scales if not axes.get_ylabel()]
    for number, axes in enumerate(panels, 1):
        place = axes.get_subplotspec()
        for side, name, same in (("x", axes.get_xlabel(), "colspan"), ("y", axes.get_ylabel(), "rowspan")):
            shared = [other for other in panels if getattr(other.get_subplotspec(), same) == getattr(place, same)]
            named = name or any(getattr(other, f"get_{side}label")() for other in shared)
            ticks = [label.get_text() for label in getattr(axes, f"get_{side}ticklabels")()]
            numbers = [text.lstrip("−-.$").replace(".", "").isdigit() for text in ticks if text]
            if numbers and all(numbers) and not named:
                found.append(f"panel {number}: no {side}label")
        things = [x for x in (*axes.lines, *axes.collections) if x.get_visible()]
        if len(things) > 1 and not legends and not axes.texts and not scales:
            found.append(f"panel {number}: {len(things)} things and no legend")
        shaded = [x for x in axes.images if isinstance(x, AxesImage) and x.get_array().ndim == 2]
        shaded += [x for x in axes.collections if type(x).__name__ == "QuadContourSet"]
        if shaded and not scales and not legends and any(ticks):
            found.append(f"panel {number}: colours without a scale")
    return found
