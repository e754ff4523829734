"""Pictures of the recorded graph: `draw(loss)`."""

from .graph import draw
