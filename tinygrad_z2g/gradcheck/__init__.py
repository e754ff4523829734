"""Slopes measured: `tools/gradcheck` under its public name. This file knows nothing of how."""

from ..tools.gradcheck import GradcheckError, Report, compare, gradcheck
from ..tools.gradcheck.twice import gradgradcheck

__all__ = ["GradcheckError", "Report", "compare", "gradcheck", "gradgradcheck"]
