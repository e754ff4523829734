"""One HTML file that needs nothing else: styles, scripts and data are put into it.

The parts are the files in `web/`, each readable by itself. What the page may do is written at its top, as a
Content-Security-Policy: run these very scripts, by their hashes, and load nothing from anywhere. Data are JSON inside
an element that no browser executes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

SCRIPT = '<script type="application/json" id="data">{}</script>'


class Page:
    """A finished page: `.save("page.html")`, `.html()`; a notebook shows it in a frame by itself."""

    def __init__(self, title: str, name: str, scripts: list[str], data: dict[str, Any]):
        """The body `name`.html with the styles `name`.css, and `scripts`, which find `data` in the element "data"."""
        self.title = title
        styles = _read("shared.css") + "\n" + _read(f"{name}.css")
        codes = [_read(script) for script in ("shared.js", *scripts)]
        policy = "; ".join([
            "default-src 'none'", f"script-src {' '.join(map(_hash, codes))}", f"style-src {_hash(styles)}",
            "base-uri 'none'", "form-action 'none'",
        ])  # fmt: skip
        # "<" inside JSON can only stand in a string; written as \u003c it cannot end the element
        numbers = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        self._text = "\n".join([
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{html.escape(title)}</title>\n<style>{styles}</style>\n</head>\n<body>",
            _read(f"{name}.html"), SCRIPT.format(numbers), *(f"<script>{code}</script>" for code in codes),
            "</body>\n</html>\n",
        ])  # fmt: skip

    def html(self) -> str:
        """The whole file as text."""
        return self._text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file. ValueError unless its name ends in .html, OSError if it cannot be written."""
        path = check_path(path)
        try:
            path.write_text(self._text, encoding="utf-8", errors="replace")
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"page: cannot write {str(path)!r}: {reason}; name a file in a folder that exists") from None

    def __repr__(self) -> str:
        return f'<page: {self.title}, {len(self._text) / 1e6:.2f} MB; .save("page.html"), .html()>'

    def _repr_html_(self) -> str:
        """The page in a frame of its own, which can run scripts and reach nothing."""
        style = "width:100%;height:80vh;min-height:40rem;border:1px solid #8888"
        inside, title = html.escape(self._text), html.escape(self.title)
        return f'<iframe sandbox="allow-scripts" title="{title}" style="{style}" srcdoc="{inside}"></iframe>'


def check_path(path: str | os.PathLike[str]) -> Path:
    """The path of a page to be written. TypeError for what is no path, ValueError unless it ends in .html."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"page: expected a file name such as 'page.html', got {type(path).__name__}")
    if Path(path).suffix != ".html":
        raise ValueError(f"page: expected a file name that ends in .html, got {str(path)!r}")
    return Path(path)


def base64_text(array: Any) -> str:
    """The bytes of a NumPy array, in base64."""
    return base64.b64encode(array.tobytes()).decode("ascii")


def _read(name: str) -> str:
    return files(__package__).joinpath("web", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names an allowed script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
