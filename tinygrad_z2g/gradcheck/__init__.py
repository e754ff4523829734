"""Slopes measured: `tools/gradcheck` under its public name, of which that knows nothing."""

from ..tools.gradcheck import GradcheckError, Report, compare, gradcheck
from ..tools.gradcheck.twice import gradgradcheck

__all__ = ["GradcheckError", "Report", "compare", "gradcheck", "gradgradcheck"]
